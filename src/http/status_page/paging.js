// A list that the server pages: a page begins behind a cursor, and the cursors of the pages before it are kept, so that
// one can go back, after a reload as well.

import { address, at, number, read, toast } from './base.js';

export const ROWS = 50;

// `query` gives the parameters, and `show` takes the links of a page.
export function paged(name, query, show) {
  const kept = `pagesyncd-${name}`;
  let stack = [], asked = 0;
  try { stack = JSON.parse(sessionStorage.getItem(kept) ?? '[]'); } catch { /* none was kept */ }
  const keep = () => {
    address.set(`${name}-page`, stack.length);
    try { sessionStorage.setItem(kept, JSON.stringify(stack)); } catch { /* a reload begins with the first page */ }
  };
  if (stack.length !== address.number(`${name}-page`)) { stack = []; keep(); }
  let next = null;

  async function load() {
    const turn = asked += 1;
    const parameters = new URLSearchParams({ limit: ROWS });
    for (const [key, value] of Object.entries(query())) if (value) parameters.set(key, value);
    if (stack.length) parameters.set('after', stack.at(-1));
    let page;
    try { page = await read(`/v1/links?${parameters}`); } catch (error) {
      // A cursor of another order, or of an older daemon. Any other trouble passes, and the page stays.
      if (error.status === 400 && stack.length && turn === asked) { stack = []; keep(); return load(); }
      throw error;
    }
    // A later question was asked meanwhile.
    if (turn !== asked) return;
    if (!page.links.length && stack.length) { stack.pop(); keep(); return load(); }
    next = page.next;
    const first = stack.length * ROWS;
    at(`${name}-range`).textContent = page.total ? `${number(first + 1)}–${number(first + page.links.length)} of ${number(page.total)}` : 'none';
    at(`${name}-prev`).disabled = !stack.length;
    at(`${name}-next`).disabled = !next;
    show(page);
  }
  // One page at a time: until the answer is there, the buttons have nothing to go by.
  async function turnTo(pages) {
    const [before, behind] = [stack, next];
    [stack, next] = [pages, null];
    keep();
    try { await load(); } catch (error) {
      if (stack === pages) { [stack, next] = [before, behind]; keep(); }
      toast(`The page cannot be read now: ${error.message}`);
    }
  }
  at(`${name}-prev`).onclick = () => { if (stack.length) turnTo(stack.slice(0, -1)); };
  at(`${name}-next`).onclick = () => { if (next) turnTo([...stack, next]); };
  return { load, restart() { stack = []; keep(); return load(); } };
}
