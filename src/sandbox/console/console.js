'use strict';
// One page, one stream of events, and a few reads that follow from them. Texts from the world are only ever set as text.

const at = id => document.getElementById(id);
const make = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  for (const [name, value] of Object.entries(props.data ?? {})) node.dataset[name] = value;
  node.append(...children);
  return node;
};
const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;

const view = { offset: 0, limit: 25, total: 0, selected: null, object: 0, page: null, awaited: null, dirty: false, first: true };

async function ask(path, body) {
  const init = body === undefined ? {} :
    { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
  const answer = await fetch('/api/' + path, init);
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error ?? answer.statusText);
  return value;
}

async function act(path, body) {
  try { return await ask(path, body); } catch (error) { toast(error.message); return null; } finally { soon(); }
}

let toastTimer;
function toast(text) {
  at('toast').textContent = text;
  at('toast').hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { at('toast').hidden = true; }, 5000);
}

// Many events, few reads: the first asks soon, the others within that time ride along.
function lazily(wait, work) {
  let timer = null, again = false, busy = false;
  const run = async () => {
    timer = null; busy = true;
    try { await work(); } catch { /* the stream tells when the console is back */ }
    busy = false;
    if (again) { again = false; timer = setTimeout(run, wait); }
  };
  return () => { if (busy) again = true; else timer ??= setTimeout(run, wait); };
}
const soon = lazily(150, async () => { await Promise.all([showState(), showRows(), showPage()]); });
const pageSoon = lazily(60, () => showPage());

// The state of everything.

const known = { faults: '', people: '', users: '', page: '', notices: '' };

async function showState() {
  const state = await ask('state');
  showDaemon(state.daemon, state.status);
  at('flow-facebook').textContent = state.undelivered ? `${state.undelivered} webhooks waiting` : `${state.pages} pages`;
  at('flow-spaces').textContent = `${state.objects} object${state.objects === 1 ? '' : 's'}, ${state.puts} writes`;
  at('step-link').classList.toggle('done', state.objects > 0);
  at('shuffle-count').textContent = Math.min(Math.max(state.objects, 5), 1000);
  showFaults(state.faults);
  showPeople(state.people);
  showNotices(state.notices, state.faults, state.status);
  const users = JSON.stringify(state.users);
  if (users !== known.users) {
    known.users = users;
    at('login-user').replaceChildren(...state.users.map((user, n) =>
      make('option', { value: user, textContent: `User ${n + 1} (${user.slice(0, 4)}…)` })));
  }
  at('violations').hidden = state.violations.length === 0;
  at('violations').textContent = state.violations.slice(-5).join('\n');
}

const number = value => typeof value === 'number' ? value
  : value && typeof value === 'object' ? Object.values(value).reduce((sum, n) => sum + (typeof n === 'number' ? n : 0), 0) : null;

function showDaemon(daemon, status) {
  const running = daemon?.state === 'running';
  const pill = at('daemon-state');
  pill.dataset.state = daemon?.state ?? 'unknown';
  pill.textContent = running ? `daemon runs, pid ${daemon.pid}` : `daemon stopped${daemon?.how ? ': ' + daemon.how : ''}`;
  at('daemon-kill').disabled = !running;
  at('daemon-start').disabled = running;
  at('node-daemon').classList.toggle('down', !running);
  const facts = status && typeof status === 'object' ? status : {};
  const due = number(facts.due), outbox = number(facts.outbox), links = number(facts.links);
  at('flow-daemon').textContent = !running ? 'is not running' : due || outbox ? `owes ${due ?? 0} reads, ${outbox ?? 0} writes`
    : links === null ? 'does not answer' : `${links} link${links === 1 ? '' : 's'}, nothing owed`;
  const waiting = facts.health && number({ ...facts.health, active: 0 });
  const shown = [['Version', facts.version], ['Links', links], ['Reads owed', due], ['Writes owed', outbox], ['Waiting for a person', waiting]];
  at('status-facts').replaceChildren(...shown.map(([name, value]) =>
    make('div', {}, make('dt', { textContent: name }), make('dd', { textContent: value ?? '–' }))));
  at('status-json').textContent = JSON.stringify(status, null, 2);
}

// What a newcomer tries first stands first.
const common = ['spaces_refused', 'spaces_slow_down', 'graph_reset', 'graph_slow', 'throttle_app', 'webhooks_duplicated', 'webhooks_lost'];
const sides = { common: 'Try these first', graph: 'Graph', webhooks: 'Webhooks', spaces: 'Spaces', notices: 'Receiver of notices', codes: 'Graph answers with an error' };

function showFaults(faults) {
  const seen = JSON.stringify(faults);
  const on = faults.filter(fault => fault.on);
  at('fault-count').textContent = on.length ? `${on.length} on` : '';
  at('fault-count').dataset.standing = on.length ? 'behind' : 'none';
  for (const [side, node] of [['graph', 'node-facebook'], ['spaces', 'node-spaces']]) {
    const faulty = on.some(f => f.side === side || (side === 'graph' && f.side !== 'spaces' && f.side !== 'notices'));
    at(node).classList.toggle('faulty', faulty);
  }
  if (seen === known.faults) return;
  known.faults = seen;
  const open = new Set([...at('faults').querySelectorAll('details[open]')].map(group => group.dataset.side));
  if (!at('faults').children.length) open.add('common');
  at('faults').replaceChildren(...Object.entries(sides).map(([side, title]) => {
    const group = fault => common.includes(fault.name) ? 'common' : fault.side;
    const mine = faults.filter(fault => group(fault) === side);
    const active = mine.filter(fault => fault.on).length;
    const switches = mine.map(fault => {
      const box = make('input', { type: 'checkbox', checked: fault.on, data: { fault: fault.name } });
      box.onchange = () => act('fault', { fault: fault.name, on: box.checked });
      return make('label', { className: 'switch', title: fault.title }, box, make('span', { textContent: fault.title }));
    });
    return make('details', { open: open.has(side), data: { side } },
      make('summary', { textContent: title }, ...(active ? [make('span', { textContent: `${active} on` })] : [])), ...switches);
  }));
}

// What the platform's own program was told.

function showNotices(notices, faults, status) {
  const waiting = status?.notify?.waiting ?? 0;
  at('notices-waiting').textContent = waiting ? `${waiting} waiting` : '';
  at('notices-waiting').dataset.standing = waiting ? 'behind' : 'none';
  for (const box of [at('notices-down'), at('notices-hang')])
    if (document.activeElement !== box) box.checked = faults.some(fault => fault.on && fault.name === box.dataset.fault);
  const seen = JSON.stringify(notices);
  if (seen === known.notices) return;
  known.notices = seen;
  at('notices').replaceChildren(...notices.map(notice => {
    const words = make('span', {});
    if (notice.page) {
      const link = make('a', { textContent: notice.name ?? notice.page, href: '#' });
      link.onclick = click => { click.preventDefault(); select(notice.page); };
      words.append(link, ' ');
    }
    const data = notice.data ?? {};
    const few = data.changed && (data.changed.length > 6 ? `${data.changed.slice(0, 5).join(', ')} and ${data.changed.length - 5} more` : data.changed.join(', '));
    const detail = few ?? data.reason ?? data.confirmation_code ?? (data.anew ? 'anew' : data.object_kept ? 'object kept' : '');
    words.append(notice.type.replace('page.', ''), ...(detail ? [make('span', { className: 'dim', textContent: ` ${detail}` })] : []));
    return make('li', { className: notice.taken ? '' : 'failed', data: { kind: 'notice', type: notice.type, page: notice.page ?? '' } },
      make('time', { textContent: clock.format(notice.at) }), make('i'), words);
  }));
}

const personDeeds = [['change_password', 'Changes the password'], ['expire_tokens', 'Tokens expire'], ['expire_soon', 'Tokens get an end date in ten days'],
  ['checkpoint', 'Held at a checkpoint'], ['remove_permission', 'Takes back a permission'],
  ['remove_app', 'Removes the app'], ['delete_data', 'Asks for deletion']];

function showPeople(people) {
  const seen = JSON.stringify(people);
  if (seen === known.people) return;
  known.people = seen;
  at('people').replaceChildren(...people.map(person => {
    const facts = `runs ${person.runs} page${person.runs === 1 ? '' : 's'}` +
      (person.known ? `, ticked ${person.ticked}, ${person.tokens} tokens alive` : ', has not logged in');
    const acts = personDeeds.map(([deed, title]) => {
      const button = make('button', { textContent: title, data: { deed, person: person.id } });
      button.onclick = async () => {
        const done = await act('person', { person: person.id, deed });
        if (done) toast(`${person.name}: ${title.toLowerCase()}.` + (done.told ? ` The daemon answered ${done.told}.` : ''));
      };
      return button;
    });
    return make('li', { data: { person: person.id } },
      make('div', { className: 'who' }, make('b', { textContent: person.name }), make('span', { className: 'dim', textContent: facts })),
      ...(person.known ? [make('div', { className: 'acts' }, ...acts)] : []));
  }));
}

// The list of pages.

const words = { equal: 'in step', behind: 'behind', damaged: 'altered', none: 'no object', gone: 'deleted' };
let lastStandings = new Map();
// What did not change keeps its node: a click whose node goes between press and release is lost.
let lines = new Map();

function fill(parent, nodes) {
  if (nodes.length !== parent.children.length || nodes.some((node, n) => node !== parent.children[n])) parent.replaceChildren(...nodes);
}

async function showRows() {
  const query = new URLSearchParams({ search: at('page-search').value, linked: at('page-linked').checked ? '1' : '0', offset: view.offset, limit: view.limit });
  const list = await ask('pages?' + query);
  if (view.offset && view.offset >= list.total) { view.offset = 0; return showRows(); }
  view.total = list.total;
  const standings = new Map(list.rows.map(row => [row.id, row.standing]));
  const kept = new Map();
  fill(at('page-rows'), list.rows.map(row => {
    const says = JSON.stringify(row), old = lines.get(row.id);
    const line = old?.says === says ? old.line : lineOf(row);
    line.setAttribute('aria-selected', row.id === view.selected);
    kept.set(row.id, { says, line });
    return line;
  }));
  lines = kept;
  lastStandings = standings;
  const last = Math.min(view.offset + view.limit, list.total);
  at('page-range').textContent = list.total ? `${view.offset + 1}–${last} of ${list.total}` : 'none';
  at('page-prev').disabled = view.offset === 0;
  at('page-next').disabled = last >= list.total;
  if (view.first && list.rows.length) {
    view.first = false;
    await select((list.rows.find(row => row.objects) ?? list.rows[0]).id);
  }
}

function lineOf(row) {
  const standing = row.deleted ? 'gone' : row.standing;
  const caught = row.standing === 'equal' && ['behind', 'none', 'damaged'].includes(lastStandings.get(row.id));
  const badges = [make('span', { className: 'badge', textContent: words[standing], data: { standing } })];
  if (row.health) badges.unshift(make('span', { className: 'badge', textContent: row.health.replaceAll('_', ' '), data: { health: row.health } }), ' ');
  const line = make('tr', { className: (row.deleted ? 'gone ' : '') + (caught ? 'flash' : ''), tabIndex: 0, data: { page: row.id, standing } },
    make('td', {}, make('b', { textContent: row.name })),
    make('td', { className: 'dim', textContent: row.category ?? '' }),
    make('td', {}, make('code', { className: 'dim', textContent: row.id })),
    make('td', {}, ...badges));
  line.onclick = () => select(row.id);
  line.onkeydown = event => { if (event.key === 'Enter') select(row.id); };
  return line;
}

function turn(by) { view.offset = Math.max(0, view.offset + by * view.limit); soon(); }
function search() { view.offset = 0; soon(); }

// One page.

async function select(id) {
  Object.assign(view, { selected: id, object: 0, page: null, dirty: false });
  at('edit-field').replaceChildren();
  for (const row of at('page-rows').children) row.setAttribute('aria-selected', row.dataset.page === id);
  await showPage();
}

const editable = ['name', 'about', 'description', 'category', 'phone', 'website', 'emails', 'hours', 'location', 'fan_count', 'picture'];
const plain = value => value === undefined ? '' : typeof value === 'string' ? value : JSON.stringify(value, null, 1);
const brief = value => { const short = typeof value === 'object' && JSON.stringify(value); return short && short.length < 60 ? short : plain(value); };

async function showPage() {
  if (!view.selected) return;
  const page = await ask('pages/' + encodeURIComponent(view.selected));
  if (page.id !== view.selected) return;
  view.page = page;
  at('detail').hidden = false;
  at('detail-name').textContent = page.name;
  at('rename').textContent = `Rename ${page.name}`;
  at('rename').disabled = page.deleted;
  at('detail-id').textContent = page.id;
  const object = page.objects[Math.min(view.object, page.objects.length - 1)];
  const standing = page.deleted ? 'gone' : object?.standing ?? 'none';
  at('detail-standing').textContent = words[standing];
  at('detail-standing').dataset.standing = standing;
  if (!at('edit-field').children.length) {
    at('edit-field').replaceChildren(...editable.map(field => make('option', { value: field, textContent: field })));
    view.dirty = false;
  }
  // Not under the hands of who is about to type.
  if (!view.dirty && document.activeElement !== at('edit-value')) fillValue();
  at('edit-save').disabled = page.deleted;
  showObjects(page, object);
  for (const button of at('page-deeds').children) {
    const deed = button.dataset.deed;
    button.hidden = page.deleted ? deed !== 'restore' && !deed.endsWith('objects') && deed !== 'sync' : deed === 'restore';
    button.disabled = deed.endsWith('objects') && !page.objects.length;
  }
  arrived(page);
}

function fillValue() {
  const field = at('edit-field').value;
  const picture = field === 'picture';
  at('edit-value').disabled = picture;
  at('edit-value').value = picture ? 'a new picture' : plain(view.page?.node[field]);
  at('edit-value').rows = Math.min(6, at('edit-value').value.split('\n').length);
  view.dirty = false;
}

function showObjects(page, object) {
  const says = JSON.stringify([page, view.object]);
  if (says === known.page) return;
  known.page = says;
  at('detail-objects').replaceChildren(...(page.objects.length > 1 ? page.objects : []).map((one, n) => {
    const tab = make('button', { textContent: `user ${one.user.slice(0, 8)}… ${words[one.standing]}` });
    tab.setAttribute('role', 'tab');
    tab.setAttribute('aria-selected', one === object);
    tab.onclick = () => { view.object = n; showPage(); };
    return tab;
  }));
  const data = object?.json?.data?.[0] ?? {};
  const fields = [...new Set([...Object.keys(data), ...Object.keys(page.node)])];
  const rank = field => (object?.differing.includes(field) ? 0 : field in data ? 1 : 2) * 100 + (editable.indexOf(field) + 1 || 99);
  fields.sort((a, b) => rank(a) - rank(b));
  at('compare-rows').replaceChildren(...fields.filter(field => field !== 'picture').map(field => {
    const standing = !(field in data) ? 'alone' : object.differing.includes(field) ? 'behind' : 'equal';
    const cell = value => make('td', {}, make('span', { className: 'value', textContent: brief(value) }));
    return make('tr', { data: { field, standing } }, make('td', { textContent: field }), cell(page.node[field]),
      field in data ? cell(data[field]) : make('td', { textContent: object ? 'not kept' : '–' }));
  }));
  at('object-json').textContent = object ? `${object.key}\n\n${JSON.stringify(object.json, null, 2)}` : 'There is no object.';
  const health = page.links.map(link => [link.health, link.reason, link.remedy && `what to do: ${link.remedy}`].filter(Boolean).join('; ')).join(' | ');
  at('detail-meta').textContent = [
    page.subscribed ? `webhooks: ${page.subscribed.join(', ')}` : 'no webhook subscription',
    `read ${times(page.reads)}`, object && `written ${times(object.puts)}`, object?.json?.fetched_at && `fetched ${object.json.fetched_at} by ${object.json.source}`,
    page.links.length ? `the daemon says: ${health}` : 'not linked', `run by ${page.roles.map(p => p.name).join(', ') || 'nobody'}`,
  ].filter(Boolean).join(' · ');
}

const times = count => count === 1 ? 'once' : `${count} times`;

// From the edit to the object: how long it took.

function expect(page) {
  view.awaited = { page, since: performance.now() };
  at('step-edit').classList.add('done');
  at('latency').className = 'latency waiting';
  at('latency').textContent = 'on its way…';
}

function arrived(page) {
  const awaited = view.awaited;
  if (awaited?.page !== page.id || !page.objects.length || page.objects.some(one => one.standing !== 'equal')) return;
  view.awaited = null;
  const took = performance.now() - awaited.since;
  at('step-watch').classList.add('done');
  at('latency').className = 'latency';
  at('latency').textContent = `in Spaces after ${took < 950 ? Math.round(took) + ' ms' : (took / 1000).toFixed(1) + ' s'}`;
}

async function edit(field, value) {
  const page = view.selected;
  if (!page) return;
  const linked = view.page?.objects.length > 0;
  if (linked) expect(page);
  const done = await act('edit', { page, field, value });
  view.dirty = false;
  if (done && !done.changed) { view.awaited = null; at('latency').textContent = ''; toast('It says that already.'); }
  else if (done && !linked) toast('Edited. The page has no object yet: link it first.');
  else if (!done) { view.awaited = null; at('latency').textContent = ''; }
}

// Pulses along the arrows.

let flying = 0;
function pulse(edge, ok) {
  if (calm || flying > 24 || document.hidden) return;
  const path = at('edge-' + edge);
  const length = path.getTotalLength();
  const dot = document.createElementNS('http://www.w3.org/2000/svg', 'circle');
  dot.setAttribute('class', 'pulse' + (ok ? '' : ' failed'));
  dot.dataset.edge = edge;
  at('pulses').append(dot);
  flying += 1;
  const began = performance.now();
  const step = now => {
    const part = Math.min(1, (now - began) / 700);
    const reach = ok ? part : Math.min(part, .55);
    const point = path.getPointAtLength(length * reach);
    dot.setAttribute('cx', point.x);
    dot.setAttribute('cy', point.y);
    dot.setAttribute('opacity', part > .8 ? (1 - part) * 5 : 1);
    if (part < 1) requestAnimationFrame(step); else { dot.remove(); flying -= 1; }
  };
  requestAnimationFrame(step);
}

function edgeOf(event) {
  if (event.kind === 'webhook' && /^webhook /.test(event.text)) return 'webhook';
  if (event.kind === 'spaces') return 'write';
  return event.kind === 'graph' ? 'read' : null;
}

// The feed.

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });

function feed(events) {
  const lines = events.slice(-100).reverse().map(event => {
    const words = make('span', {});
    if (event.page) {
      const link = make('a', { textContent: event.name ?? event.page, href: '#' });
      link.onclick = click => { click.preventDefault(); select(event.page); };
      words.append(link, ' ');
    }
    words.append(event.text);
    return make('li', { className: event.ok ? '' : 'failed', data: { kind: event.kind, page: event.page ?? '' } },
      make('time', { textContent: clock.format(event.at) }), make('i'), words);
  });
  const list = at('feed');
  const held = list.scrollTop > 30 ? list.scrollHeight - list.scrollTop : 0;
  list.prepend(...lines);
  while (list.children.length > 300) list.lastElementChild.remove();
  if (held) list.scrollTop = list.scrollHeight - held;
}

function connect() {
  const stream = new EventSource('/api/events');
  const live = at('live');
  stream.onopen = () => { live.dataset.state = 'running'; live.textContent = 'live'; soon(); };
  stream.onerror = () => {
    live.dataset.state = 'stopped'; live.textContent = 'sandbox is gone';
    // A browser gives a stream up for good when it is refused; a refreshed world is worth another try.
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  };
  stream.addEventListener('world', message => {
    const events = JSON.parse(message.data);
    feed(events);
    for (const event of events) { const edge = edgeOf(event); if (edge) pulse(edge, event.ok); }
    if (events.some(event => event.page === view.selected)) pageSoon();
    soon();
  });
  stream.addEventListener('daemon', message => { const { daemon, status } = JSON.parse(message.data); showDaemon(daemon, status); soon(); });
  stream.addEventListener('lagged', soon);
}

// Buttons.

at('login').onclick = async () => {
  // Opened within the click, or the browser takes it for an unwanted window.
  const tab = window.open('about:blank', '_blank');
  const done = await act('login', { user: at('login-user').value });
  if (!done) { tab?.close(); return; }
  if (tab) { tab.opener = null; tab.location = done.url; } else location.assign(done.url);
};
at('rename').onclick = () => {
  const name = view.page?.name ?? '';
  const base = name.replace(/ No\. \d+$/, '');
  edit('name', `${base} No. ${1 + Number(/ No\. (\d+)$/.exec(name)?.[1] ?? 1)}`);
};
at('shuffle').onclick = () => { at('step-edit').classList.add('done'); act('shuffle', { count: Number(at('shuffle-count').textContent) }); };
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
// Emptying a field by other means than keys is told by a change alone.
at('edit-value').oninput = at('edit-value').onchange = () => { view.dirty = true; };
at('page-deeds').onclick = event => {
  const deed = event.target.dataset.deed;
  if (deed && view.selected) act('page', { page: view.selected, deed });
};
at('daemon-kill').onclick = () => act('daemon', { deed: 'kill' });
at('daemon-start').onclick = () => act('daemon', { deed: 'start' });
for (const box of [at('notices-down'), at('notices-hang')])
  box.onchange = () => { act('fault', { fault: box.dataset.fault, on: box.checked }); box.blur(); };
at('calm').onclick = () => act('calm', {});
at('page-search').oninput = search;
at('page-linked').onchange = search;
at('page-prev').onclick = () => turn(-1);
at('page-next').onclick = () => turn(1);

connect();
soon();
