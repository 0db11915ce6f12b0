// What the parts of the console share beside the parts of the status page: its own requests.

import { lazily, toast } from '/assets/base.js';

export * from '/assets/base.js';

export async function ask(path, body) {
  const init = body === undefined ? {} :
    { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
  const answer = await fetch('/api/' + path, init);
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error ?? answer.statusText);
  return value;
}

const refreshers = [];
export const onRefresh = work => refreshers.push(work);

export async function act(path, body) {
  try { return await ask(path, body); } catch (error) { toast(error.message); return null; } finally { refresh(); }
}

export const refresh = lazily(150, () => Promise.all(refreshers.map(work => work())));
