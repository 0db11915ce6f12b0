// What all scripts of the status page and of the sandbox's console share. Texts from elsewhere are only ever set as text.

export const at = id => document.getElementById(id);
export const make = (tag, props = {}, ...children) => {
  const { data, aria, ...own } = props;
  const node = Object.assign(document.createElement(tag), own);
  for (const [name, value] of Object.entries(data ?? {})) node.dataset[name] = value;
  for (const [name, value] of Object.entries(aria ?? {})) node.setAttribute(`aria-${name}`, value);
  node.append(...children.filter(child => child !== null && child !== undefined && child !== false));
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

// Fills a list whose rows stay as long as their data: `rows` is kept from one time to the next.
export function fillRows(parent, rows, list, keyOf, build) {
  const kept = new Map();
  fill(parent, list.map(item => {
    const key = keyOf(item), says = JSON.stringify(item), old = rows.get(key);
    const node = old?.says === says ? old.node : build(item);
    kept.set(key, { says, node });
    return node;
  }));
  rows.clear();
  for (const [key, row] of kept) rows.set(key, row);
}

// Sets a property only where it differs, so that nothing that is read aloud or pressed changes for nothing.
export function set(node, property, value) { if (node[property] !== value) node[property] = value; }

// Does the value differ from the one that was shown last?
const known = {};
export const stale = (name, value) => { const says = JSON.stringify(value); if (known[name] === says) return false; known[name] = says; return true; };

export const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
export const plural = (count, word) => `${number(count)} ${word}${count === 1 ? '' : 's'}`;
export const times = count => count === 1 ? 'once' : `${count} times`;
export const lasted = ms => ms < 950 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
export const words = text => text.replaceAll('_', ' ');
export const sentence = text => `${text[0].toUpperCase()}${text.slice(1)}.`;
const figures = new Intl.NumberFormat('en');
export const number = value => figures.format(value);

// How long, in one unit.
export function span(seconds) {
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['min', 60]]) if (seconds >= 2 * size || (seconds >= size && unit === 'd')) return `${Math.floor(seconds / size)} ${unit}`;
  return `${Math.max(0, Math.round(seconds))} s`;
}

// A moment, in words that follow the time.
const distance = date => { const ahead = (date - Date.now()) / 1000; return ahead > 0.5 ? `in ${span(ahead)}` : `${span(-ahead)} ago`; };
export function moment(text, otherwise = '–') {
  if (!text) return make('span', { className: 'dim', textContent: otherwise });
  const date = new Date(text);
  return make('time', { dateTime: text, title: date.toLocaleString(), textContent: distance(date) });
}
setInterval(() => {
  for (const time of document.querySelectorAll('#status time[datetime]')) set(time, 'textContent', distance(new Date(time.dateTime)));
}, 5000);

// A text with a button that copies it.
export function copyable(text, what) {
  const code = make('code', { textContent: text });
  const button = make('button', { type: 'button', className: 'copy', textContent: 'Copy', data: { key: `copy-${text}` }, aria: { label: `Copy ${what}` } });
  button.onclick = async () => {
    try { await navigator.clipboard.writeText(text); toast('Copied.'); } catch {
      getSelection().selectAllChildren(code);
      toast('The browser does not let this page copy. The text is selected.');
    }
  };
  return make('span', { className: 'copyable' }, code, button);
}

let toastTimer;
export function toast(text) {
  at('toast').textContent = text;
  at('toast').hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { at('toast').hidden = true; }, 7000);
}

// Read aloud, and not seen.
export function announce(text) { set(at('announcer'), 'textContent', text); }

export async function read(path) {
  const answer = await fetch(path);
  const value = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(value.error?.message ?? value.error ?? answer.statusText), { status: answer.status });
  return value;
}

// Many events, few reads: the first event schedules a read, and those within that time share it.
export function lazily(wait, work) {
  let timer = null, again = false, busy = false;
  const run = async () => {
    timer = null; busy = true;
    try { await work(); } catch { /* the stream shows when the other end is back */ }
    busy = false;
    if (again) { again = false; timer = setTimeout(run, wait); }
  };
  return () => { if (busy) again = true; else timer ??= setTimeout(run, wait); };
}

// The address holds the open view and the selection, so that a reload, or a copy of the address, shows the same.
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
