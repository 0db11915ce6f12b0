'use strict';
// Shared by all parts of the console. Texts from the world are only ever set as text.

export const at = id => document.getElementById(id);
export const make = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  for (const [name, value] of Object.entries(props.data ?? {})) node.dataset[name] = value;
  node.append(...children.filter(child => child !== null));
  return node;
};

// A button that reads as a link: Enter and Space press it alike.
export function link(text, key, press) {
  const button = make('button', { type: 'button', className: 'link', textContent: text, data: { key } });
  button.onclick = event => { event.stopPropagation(); press(); };
  return button;
}

// A switch is a button too, for the same reason.
export function turn(button, on) { button.setAttribute('aria-checked', String(on)); }
export const isOn = button => button.getAttribute('aria-checked') === 'true';

// Puts new content in. An unchanged element keeps its node, because a click whose node goes between press and
// release is lost. The focus stays on the control with the same key.
export function fill(parent, nodes) {
  const old = parent.children;
  if (nodes.length === old.length && nodes.every((node, n) => node === old[n])) return;
  const active = document.activeElement;
  const key = active && parent.contains(active) ? active.dataset.key : undefined;
  parent.replaceChildren(...nodes);
  if (key !== undefined && document.activeElement !== active)
    [...parent.querySelectorAll('[data-key]')].find(node => node.dataset.key === key)?.focus({ preventScroll: true });
}

export const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
export const plural = (count, word) => `${count} ${word}${count === 1 ? '' : 's'}`;
export const times = count => count === 1 ? 'once' : `${count} times`;
export const lasted = ms => ms < 950 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;

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

let toastTimer;
export function toast(text) {
  at('toast').textContent = text;
  at('toast').hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { at('toast').hidden = true; }, 7000);
}

// Many events, few reads: the first event schedules a read, and those within that time share it.
export function lazily(wait, work) {
  let timer = null, again = false, busy = false;
  const run = async () => {
    timer = null; busy = true;
    try { await work(); } catch { /* the stream shows when the console is back */ }
    busy = false;
    if (again) { again = false; timer = setTimeout(run, wait); }
  };
  return () => { if (busy) again = true; else timer ??= setTimeout(run, wait); };
}
export const refresh = lazily(150, () => Promise.all(refreshers.map(work => work())));

// The address holds the open tab and the selection, so that a reload, or a copy of the address, shows the same.
const params = new URLSearchParams(location.hash.slice(1));
export const address = {
  get: (name, otherwise = '') => params.get(name) ?? otherwise,
  number: (name, otherwise = 0) => { const n = Number(params.get(name)); return Number.isFinite(n) && params.has(name) ? n : otherwise; },
  set(name, value) {
    if (value === '' || value === null || value === undefined || value === 0) params.delete(name); else params.set(name, value);
    const hash = params.toString();
    history.replaceState(null, '', hash ? '#' + hash : location.pathname);
  },
};
