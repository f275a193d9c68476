/** What axe-core finds wrong with a page that is open: rule, and where. */
import { source } from "axe-core";
import type { Page } from "playwright-core";

/** Looks at the page dark and light, narrow and wide, which it leaves it; of it at these selectors only, where there are any. */
export async function axe(page: Page, ...selectors: string[]): Promise<string[]> {
  await page.evaluate(source);
  const found = [];
  for (const colorScheme of ["dark", "light"] as const) {
    for (const width of [390, 1280]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 844 });
      found.push(...(await page.evaluate(look, selectors)).map((each) => `${colorScheme} ${width}: ${each}`));
    }
  }
  return found;
}

/** Runs in the page. */
async function look(selectors: string[]): Promise<string[]> {
  const { axe } = globalThis as unknown as { axe: typeof import("axe-core") };
  const { violations } = await axe.run(selectors.length > 0 ? { include: selectors } : document);
  return violations.map(({ id, impact, nodes }) => `${id} (${impact}): ${nodes.map(({ target }) => target).join(", ")}`);
}
