import { createHmac } from "node:crypto";

/** The setting of rowcast by which it believes these tokens. */
export const SECRET = { ROWCAST_JWT_SECRET: "a secret that only the tests know" };

/** A token, issued now. */
export function jwt(claims: { exp?: number; iat?: number; sub?: string; role?: string }, lifetime = 600): string {
  const now = Date.now() / 1000;
  const part = (json: object) => Buffer.from(JSON.stringify(json)).toString("base64url");
  const all = { iat: now, exp: Math.ceil(now + lifetime), ...claims };
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(all)}`;
  return `${text}.${createHmac("sha256", SECRET.ROWCAST_JWT_SECRET).update(text).digest("base64url")}`;
}
