// The list of links: search, filters, orders, and the walk through it by keys.

import { address, announce, at, fillRows, lazily, link, make, moment, plural, words } from './base.js';
import { close, isOpen, openDetail } from './detail.js';
import { paged } from './paging.js';
import { showView, view } from './views.js';

const rows = new Map();
const filters = { search: at('link-search'), source: at('link-source'), health: at('link-health'), sort: at('link-sort') };
for (const [name, field] of Object.entries(filters)) field.value = address.get(`link-${name}`);
let reverse = address.get('link-reverse') === '1';

const query = () => ({ ...Object.fromEntries(Object.entries(filters).map(([name, field]) => [name, field.value.trim()])), reverse: reverse ? 'true' : '' });
const list = paged('link', query, show);
let said = '';

function show({ links, total }) {
  fillRows(at('link-rows'), rows, links, one => `${one.source}/${one.id}/${one.user}`, row);
  mark();
  at('link-none').hidden = links.length > 0;
  at('link-none').textContent = isNarrow() ? 'No link fits.' : 'Nothing is linked yet. “pagesyncd session --user UUID” prints a login address.';
  const asked = JSON.stringify(query());
  if (said && said !== asked) announce(total ? `${plural(total, 'link')} found` : 'No link fits');
  said = asked;
}

const isNarrow = () => Boolean(filters.search.value.trim() || filters.source.value || filters.health.value);
export const badge = one => make('span', { className: 'badge', textContent: words(one.health), data: { health: one.health } });

function row(one) {
  const key = `${one.source}/${one.id}`;
  const name = link(one.name ?? one.id, `link-${key}-${one.user}`, () => openDetail(one.source, one.id));
  const pending = one.pending ? make('span', { className: 'badge', textContent: 'pending' }) : null;
  const line = make('tr', { data: { source: one.source, id: one.id, user: one.user, health: one.health } },
    make('td', {}, name, make('span', { className: 'narrow dim' }, one.id)),
    make('td', { className: 'extra' }, make('span', { className: 'dim', textContent: `${one.source} ` }), make('code', { textContent: one.id })),
    make('td', {}, badge(one), pending && ' ', pending),
    make('td', { className: 'extra' }, moment(one.object_changed_at)),
    make('td', { className: 'extra' }, moment(one.next_poll_at, one.daemon !== undefined && !one.since ? `daemon ${one.daemon}` : '–')));
  line.onclick = () => openDetail(one.source, one.id);
  return line;
}

// The row whose link is open.
function mark() {
  const open = isOpen();
  for (const line of at('link-rows').children) {
    const on = `${line.dataset.source}/${line.dataset.id}` === open;
    if (on) line.setAttribute('aria-current', 'true'); else line.removeAttribute('aria-current');
  }
  for (const head of document.querySelectorAll('#link-table .sort')) {
    const on = head.dataset.sort === filters.sort.value;
    const descends = ['changed', 'health'].includes(head.dataset.sort) !== reverse;
    if (on) head.closest('th').setAttribute('aria-sort', descends ? 'descending' : 'ascending'); else head.closest('th').removeAttribute('aria-sort');
  }
  at('link-clear').hidden = !isNarrow();
}
document.addEventListener('detail', mark);

function changed() {
  for (const [name, field] of Object.entries(filters)) address.set(`link-${name}`, field.value.trim());
  address.set('link-reverse', reverse ? '1' : '');
  return list.restart();
}
const soon = lazily(200, changed);
filters.search.oninput = soon;
filters.source.onchange = filters.health.onchange = changed;
filters.sort.onchange = () => { reverse = false; changed(); };
at('link-clear').onclick = () => { filters.search.value = filters.source.value = filters.health.value = ''; filters.search.focus(); changed(); };
for (const head of document.querySelectorAll('#link-table .sort')) head.onclick = () => {
  reverse = filters.sort.value === head.dataset.sort && !reverse;
  filters.sort.value = head.dataset.sort;
  changed();
};

export function showHealth(health) {
  filters.health.value = health;
  filters.search.value = filters.source.value = '';
  changed();
  showView('links');
}
export const refreshLinks = () => list.load();

// The keys. A person who types is left alone.

const isTyping = node => ['INPUT', 'TEXTAREA', 'SELECT'].includes(node?.tagName);
const names = () => [...at('link-rows').querySelectorAll('button.link')];
function walk(by) {
  const all = names(), now = all.indexOf(document.activeElement);
  const next = now < 0 ? all[by > 0 ? 0 : all.length - 1] : all[Math.min(all.length - 1, Math.max(0, now + by))];
  next?.focus();
  next?.scrollIntoView({ block: 'nearest' });
}
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || view() !== 'links') return;
  const inSearch = event.target === filters.search, inRows = at('link-rows').contains(event.target);
  const step = { j: 1, k: -1 }[event.key], arrow = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === '/' && !isTyping(event.target)) filters.search.focus();
  else if (step && !isTyping(event.target)) walk(step);
  else if (arrow && (inRows || inSearch)) {
    if (inRows && arrow < 0 && names()[0] === event.target) filters.search.focus(); else if (inRows || arrow > 0) walk(arrow);
  } else if (event.key === 'Escape' && isOpen()) close();
  else if (event.key === 'Escape' && inSearch && filters.search.value) { filters.search.value = ''; changed(); }
  else return;
  event.preventDefault();
});
