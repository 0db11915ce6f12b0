// The list of pages, and the one that is selected.

import { act, ask, at, clock, fill, lazily, link, make, address, refresh, times, toast } from './base.js';
import { describe } from './panels.js';

const words = { equal: 'in step', behind: 'behind', damaged: 'altered', none: 'no object', gone: 'deleted', leaving: 'delete pending', unlinked: 'not linked, object kept' };
const view = { offset: address.number('offset'), limit: 25, total: 0, selected: address.get('page') || null, object: address.number('object'), page: null, dirty: false };
let lastStandings = new Map();
let rows = new Map();

at('page-search').value = address.get('search');
at('page-linked').setAttribute('aria-pressed', address.get('linked') === '1');

// The address keeps the filter and the offset of the list.
function keep() {
  address.set('search', at('page-search').value);
  address.set('linked', address.get('linked'));
  address.set('offset', view.offset);
}

export async function showRows() {
  const query = new URLSearchParams({ search: at('page-search').value, linked: address.get('linked', '0'), offset: view.offset, limit: view.limit });
  const list = await ask('pages?' + query);
  if (view.offset && view.offset >= list.total) { view.offset = 0; keep(); return showRows(); }
  view.total = list.total;
  const kept = new Map();
  const standings = new Map(list.rows.map(row => [row.id, row.standing]));
  fill(at('page-rows'), list.rows.map(row => {
    const says = JSON.stringify(row), old = rows.get(row.id);
    const line = old?.says === says ? old.line : rowOf(row);
    mark(line, row.id === view.selected);
    kept.set(row.id, { says, line });
    return line;
  }));
  rows = kept;
  lastStandings = standings;
  const last = Math.min(view.offset + view.limit, list.total);
  at('page-range').textContent = list.total ? `${view.offset + 1}–${last} of ${list.total}` : 'none';
  at('page-prev').disabled = view.offset === 0;
  at('page-next').disabled = last >= list.total;
  if (!view.selected && list.rows.length) await select((list.rows.find(row => row.objects) ?? list.rows[0]).id);
}

function mark(line, selected) {
  line.dataset.selected = selected;
  line.querySelector('button').setAttribute('aria-pressed', selected);
}

function rowOf(row) {
  const standing = row.deleted && row.standing !== 'leaving' ? 'gone' : row.standing;
  const caught = row.standing === 'equal' && ['behind', 'none', 'damaged'].includes(lastStandings.get(row.id));
  const badges = [make('span', { className: 'badge', textContent: words[standing], data: { standing } })];
  if (row.health) badges.unshift(make('span', { className: 'badge', textContent: row.health.replaceAll('_', ' '), data: { health: row.health } }), ' ');
  if (row.daemon) badges.unshift(make('span', { className: 'badge', textContent: row.daemon, title: 'the daemon that holds the lease of its links', data: { holder: row.daemon } }), ' ');
  const line = make('tr', { className: (row.deleted ? 'gone ' : '') + (caught ? 'flash' : ''), data: { page: row.id, standing } },
    make('td', {}, link(row.name, `row-${row.id}`, () => select(row.id))),
    make('td', { className: 'dim', textContent: row.category ?? '' }),
    make('td', {}, make('code', { className: 'dim', textContent: row.id })),
    make('td', {}, ...badges));
  line.onclick = () => select(row.id);
  return line;
}

function turnTo(offset) { view.offset = Math.max(0, offset); keep(); refresh(); }

export async function select(id) {
  Object.assign(view, { selected: id, object: 0, page: null, dirty: false });
  address.set('page', id);
  address.set('object', 0);
  at('edit-field').replaceChildren();
  for (const line of at('page-rows').children) mark(line, line.dataset.page === id);
  await showPage();
}

export const isSelected = page => page === view.selected;
const editable = ['name', 'about', 'description', 'category', 'phone', 'website', 'emails', 'hours', 'location', 'fan_count', 'picture'];
const plain = value => value === undefined ? '' : typeof value === 'string' ? value : JSON.stringify(value, null, 1);
const brief = value => { const short = typeof value === 'object' && JSON.stringify(value); return short && short.length < 60 ? short : plain(value); };

export async function showPage() {
  if (!view.selected) return;
  let page;
  try { page = await ask('pages/' + encodeURIComponent(view.selected)); } catch (error) {
    // The address names a page of another world.
    if (!view.page) { view.selected = null; address.set('page', ''); at('detail').hidden = true; refresh(); }
    throw error;
  }
  if (page.id !== view.selected) return;
  view.page = page;
  at('detail').hidden = false;
  at('detail-name').textContent = page.name;
  at('rename').textContent = `Rename ${page.name}`;
  at('rename').disabled = page.deleted;
  at('detail-id').textContent = page.id;
  const object = page.objects[Math.min(view.object, page.objects.length - 1)];
  const standing = page.deleted && object?.standing !== 'leaving' ? 'gone' : object?.standing ?? 'none';
  at('detail-standing').textContent = words[standing];
  at('detail-standing').dataset.standing = standing;
  if (!at('edit-field').children.length) {
    at('edit-field').replaceChildren(...editable.map(field => make('option', { value: field, textContent: field })));
    view.dirty = false;
  }
  // A field with the focus is left alone.
  if (!view.dirty && document.activeElement !== at('edit-value')) fillValue();
  at('edit-save').disabled = page.deleted;
  showObjects(page, object);
  for (const button of at('page-actions').querySelectorAll('button')) {
    const action = button.dataset.action;
    button.parentElement.hidden = page.deleted ? action !== 'restore' && !action.endsWith('objects') && action !== 'sync' : action === 'restore';
    button.disabled = (action.endsWith('objects') && !page.objects.length) || (action === 'sync' && !page.links.length);
  }
}

function fillValue() {
  const field = at('edit-field').value;
  const picture = field === 'picture';
  at('edit-value').disabled = picture;
  at('edit-value').value = picture ? 'a new picture' : plain(view.page?.node[field]);
  at('edit-value').rows = Math.min(6, at('edit-value').value.split('\n').length);
  view.dirty = false;
}

let shown = '';
function showObjects(page, object) {
  const says = JSON.stringify([page, view.object]);
  if (says === shown) return;
  shown = says;
  fill(at('detail-objects'), (page.objects.length > 1 ? page.objects : []).map((one, n) => {
    const tab = make('button', { type: 'button', textContent: `user ${one.user.slice(0, 8)}… ${words[one.standing]}`, data: { key: `object-${n}` } });
    tab.setAttribute('aria-pressed', one === object);
    tab.onclick = () => { view.object = n; address.set('object', n); showPage(); };
    return tab;
  }));
  const data = object?.json?.data?.[0] ?? {};
  const fields = [...new Set([...Object.keys(data), ...Object.keys(page.node)])];
  const rank = field => (object?.differing.includes(field) ? 0 : field in data ? 1 : 2) * 100 + (editable.indexOf(field) + 1 || 99);
  fields.sort((a, b) => rank(a) - rank(b));
  fill(at('compare-rows'), fields.filter(field => field !== 'picture').map(field => {
    const standing = !(field in data) ? 'alone' : object.differing.includes(field) ? 'behind' : ['leaving', 'unlinked'].includes(object.standing) ? 'alone' : 'equal';
    const cell = value => make('td', {}, make('span', { className: 'value', textContent: brief(value) }));
    return make('tr', { data: { field, standing } }, make('td', { textContent: field }), cell(page.node[field]),
      field in data ? cell(data[field]) : make('td', { textContent: object ? 'not kept' : '–' }));
  }));
  at('object-json').textContent = object ? `${object.key}\n\n${JSON.stringify(object.json, null, 2)}` : 'There is no object.';
  const health = page.links.map(link => [link.health, link.reason, link.remedy && `what to do: ${link.remedy}`].filter(Boolean).join('; ')).join(' | ');
  const polls = page.links.map(link => link.next_poll_at).filter(Boolean).sort();
  at('detail-meta').textContent = [
    page.subscribed ? `webhooks: ${page.subscribed.join(', ')}` : 'no webhook subscription',
    `read ${times(page.reads)}`, polls.length && `next poll ${clock.format(new Date(polls[0]))}`,
    object && `written ${times(object.puts)}`, object?.json?.fetched_at && `fetched ${object.json.fetched_at} by ${object.json.source}`,
    page.links.length ? `pagesyncd: ${health}` : 'not linked', page.daemon && `held by ${page.daemon}`, `run by ${page.roles.map(p => p.name).join(', ') || 'nobody'}`,
  ].filter(Boolean).join(' · ');
}

let actsShown = '';
export function showPageActs(acts) {
  const says = JSON.stringify(acts);
  if (says === actsShown) return;
  actsShown = says;
  fill(at('page-actions'), acts.map(({ action, title, does, when }) => {
    const button = make('button', { type: 'button', textContent: title, className: action === 'delete' ? 'danger' : '', data: { action, key: `page-${action}` } });
    button.onclick = async () => {
      const done = view.selected && await act('page', { page: view.selected, action });
      if (done) toast(`${title}: done. ${when}`);
    };
    return describe(button, does, when);
  }));
}

async function edit(field, value) {
  const page = view.selected;
  if (!page) return;
  const done = await act('edit', { page, field, value });
  view.dirty = false;
  if (done && !done.changed) toast('It says that already.');
  else if (done && !view.page?.objects.length) toast('Edited. The page has no object yet: link it first.');
}

at('rename').onclick = () => {
  const name = view.page?.name ?? '';
  const base = name.replace(/ No\. \d+$/, '');
  edit('name', `${base} No. ${1 + Number(/ No\. (\d+)$/.exec(name)?.[1] ?? 1)}`);
};
at('edit').onsubmit = event => {
  event.preventDefault();
  const field = at('edit-field').value, text = at('edit-value').value, before = view.page?.node[field];
  let value = text;
  if (text === '') value = null;
  else if (before !== undefined && typeof before !== 'string') {
    try { value = JSON.parse(text); } catch { toast(`${field} holds JSON, and this is none.`); return; }
  }
  edit(field, value);
};
at('edit-field').onchange = fillValue;
// A field that is emptied by other means than keys sends a change event alone.
at('edit-value').oninput = at('edit-value').onchange = () => { view.dirty = true; };
at('page-search').oninput = () => turnTo(0);
at('page-linked').onclick = () => {
  const on = address.get('linked') !== '1';
  address.set('linked', on ? '1' : '');
  at('page-linked').setAttribute('aria-pressed', on);
  turnTo(0);
};
at('page-prev').onclick = () => turnTo(view.offset - view.limit);
at('page-next').onclick = () => turnTo(view.offset + view.limit);

export const pageSoon = lazily(60, () => showPage());
