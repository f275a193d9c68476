/** Rows by memberships that stand in a table: at each cut a collection is what its user may see then. */
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { connect, type RowcastError } from "../src/index.js";
import { jwt, SECRET } from "./jwt.js";
import { missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

type Doc = { doc_id: number; org: number; n: number };
type Tables = { docs: Doc; present: { id: number; n: number } };

/** A member comes or goes, and rows change, in one transaction, which notes what each user has to see then. */
const TABLES = `
  create table docs (doc_id int primary key, org int, n int);
  create table members (org int, member text, primary key (org, member)); create index on members (member);
  create table present (id int primary key, n int); insert into present values (1, 0);
  create table past (n int, member text, docs jsonb);
  insert into docs select g, g % 4, 0 from generate_series(1, 24) g;
  insert into members values (1, 'ann'), (2, 'bob');
  create procedure note(moved int) language sql as $$
    update present set n = moved;
    insert into past select moved, who, (select coalesce(jsonb_agg(d order by doc_id), '[]') from docs d
      where org in (select m.org from members m where m.member = who)) from unnest(array['ann','bob','zoe']) who $$;
  create procedure write_all(count int) language plpgsql as $$
    declare moved int; who text; which int;
    begin
      for i in 1..count loop
        select n + 1 into moved from present;
        who := (array['ann','bob','eve'])[1 + i % 3]; which := floor(random() * 4);
        if random() < 0.05 then truncate members; insert into members values (which, 'ann');
        elsif exists (select from members where org = which and member = who) then delete from members where org = which and member = who;
        else insert into members values (which, who); end if;
        update docs set n = moved, org = case when random() < 0.1 then (org + 1) % 4 else org end;
        call note(moved);
        commit;
        perform pg_sleep(0.02 * random());
      end loop;
    end $$;
  call note(0)`;
const WATCH = `select rowcast.watch('public.docs'), rowcast.watch('public.present');
  select rowcast.claim('orgs', 'select m.org from public.members m where m.member = {sub}');
  select rowcast.allow('docs', 'user', 'org=in.{orgs}'), rowcast.allow('present', 'user')`;

describeWhere(missing(), "memberships that stand in a table", () => {
  let server: Server;
  beforeAll(async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.02); // short pauses
    server = await Server.start({ tables: TABLES, watch: WATCH, env: SECRET });
  });
  afterAll(() => server?.stop());

  test("each change that a page is told of shows what its user may see at that moment", async () => {
    const followed = await Promise.all(
      ["ann", "bob", "zoe"].map(async (member) => {
        const client = connect<Tables>(`http://127.0.0.1:${server.port}`, {
          WebSocket,
          token: () => jwt({ sub: member, role: "user" }),
        });
        const docs = client.collection("docs", { key: "doc_id" });
        const present = client.collection("present", { key: "id" });
        const errors: RowcastError[] = [];
        docs.on("error", (error) => errors.push(error));
        await Promise.all([docs.ready, present.ready]);
        const seen: { n: number; docs: Doc[] }[] = [];
        const note = () => seen.push({ n: present.get(1)!.n, docs: [...docs.values()].sort((a, b) => a.doc_id - b.doc_id) });
        present.on("change", note);
        return { member, client, present, seen, errors };
      }),
    );
    // on a busy machine a page sees fewer moments
    do await server.write("call write_all(150)");
    while (followed.some(({ seen }) => seen.length <= 5));
    const last = Number(server.sql("select n from present"));
    for (const { member, client, present, seen, errors } of followed) {
      await vi.waitFor(() => expect(present.get(1)!.n).toBe(last), { timeout: 90_000 });
      const past = JSON.parse(server.sql(`select json_object_agg(n, docs) from past where member = '${member}'`));
      for (const { n, docs } of seen) expect([member, n, docs]).toEqual([member, n, past[n]]);
      expect(seen.length).toBeGreaterThan(5);
      expect(errors).toEqual([]);
      client.close();
    }
    // something was to be seen, and not all the time
    expect(followed[0]!.seen.some(({ docs }) => docs.length > 0)).toBe(true);
    expect(followed[2]!.seen.every(({ docs }) => docs.length === 0)).toBe(true);
  });
});
