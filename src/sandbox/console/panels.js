// The panels at the side: faults, persons, events, the daemon. And the tabs that choose among them.

import { act, at, clock, fill, isOn, link, make, address, plural, stale, toast, turn } from './base.js';
import { onChoose } from './feed.js';

let choose = () => {};
export function onSelect(work) { choose = work; onChoose(work); }

// Tabs. On a wide window the pages are beside the panels, and their tab is not shown.

const tabs = [...document.querySelectorAll('#tabs [role=tab]')];
const narrow = window.matchMedia('(max-width: 960px)');

export function showTab(name, focus = false) {
  const wanted = tabs.find(tab => tab.dataset.tab === name) ?? tabs[0];
  const shown = wanted.dataset.tab === 'pages' && !narrow.matches ? 'feed' : wanted.dataset.tab;
  if (document.body.dataset.tab !== wanted.dataset.tab) at('panels').scrollTop = 0;
  document.body.dataset.tab = wanted.dataset.tab;
  for (const tab of tabs) {
    const on = tab.dataset.tab === (narrow.matches ? wanted.dataset.tab : shown);
    tab.setAttribute('aria-selected', on);
    tab.tabIndex = on ? 0 : -1;
    if (on && focus) tab.focus();
    if (on && narrow.matches) tab.scrollIntoView({ block: 'nearest', inline: 'nearest' });
    const panel = at('panel-' + tab.dataset.tab);
    if (panel) panel.hidden = tab.dataset.tab !== shown;
  }
  address.set('tab', wanted.dataset.tab === 'pages' ? '' : wanted.dataset.tab);
}

for (const tab of tabs) tab.onclick = () => showTab(tab.dataset.tab);
at('tabs').onkeydown = event => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  const open = tabs.filter(tab => tab.offsetParent !== null);
  const now = open.findIndex(tab => tab.getAttribute('aria-selected') === 'true');
  showTab(open[(now + by + open.length) % open.length].dataset.tab, true);
  event.preventDefault();
};
narrow.onchange = () => showTab(document.body.dataset.tab);

export function count(tab, number, words) {
  const badge = at(tab);
  badge.textContent = number || '';
  badge.title = number ? words : '';
  badge.dataset.standing = number ? 'behind' : 'none';
}

// Faults. The ones to try first come first.

const common = ['spaces_refused', 'spaces_slow_down', 'graph_reset', 'graph_slow', 'throttle_app', 'webhooks_duplicated', 'webhooks_lost'];
const sides = { common: 'Try these first', graph: 'Graph', webhooks: 'Webhooks', spaces: 'Spaces', events: 'Receiver of events', codes: 'Graph answers with an error', shopify: 'Shopify, all shops' };

// A switch of a fault: shown as it is on the server, and pressed by mouse, Enter or Space.
export function faultSwitch(fault, flip) {
  const button = make('button', { type: 'button', className: 'switch', data: { fault: fault.name, key: fault.name } }, make('span', { textContent: fault.title }));
  button.setAttribute('role', 'switch');
  turn(button, fault.on);
  button.onclick = () => flip(button);
  return button;
}
function press(button) { act('fault', { fault: button.dataset.fault, on: !isOn(button) }); }
for (const button of document.querySelectorAll('#panel-events [data-fault]')) button.onclick = () => press(button);

export function showFaults(faults, ofShops) {
  const on = faults.filter(fault => fault.on), all = on.length + ofShops;
  count('fault-count', all, ofShops ? `${all} on, ${ofShops} of them for one shop` : `${all} on`);
  at('calm').disabled = !all;
  for (const [side, node] of [['graph', 'node-facebook'], ['spaces', 'node-spaces']]) {
    const faulty = on.some(f => f.side === side || (side === 'graph' && !['spaces', 'events', 'shopify'].includes(f.side)));
    at(node).classList.toggle('faulty', faulty);
  }
  for (const button of document.querySelectorAll('#panel-events [data-fault]'))
    turn(button, on.some(fault => fault.name === button.dataset.fault));
  if (!stale('faults', faults)) return;
  const open = new Set(address.get('open', 'common').split(','));
  fill(at('faults'), Object.entries(sides).map(([side, title]) => {
    const mine = faults.filter(fault => (common.includes(fault.name) ? 'common' : fault.side) === side);
    const active = mine.filter(fault => fault.on).length;
    const switches = mine.map(fault => faultSwitch(fault, press));
    const group = make('details', { open: open.has(side), data: { side } },
      make('summary', { textContent: title, data: { key: `side-${side}` } }, active ? make('span', { textContent: `${active} on` }) : null), ...switches);
    group.ontoggle = () => {
      const shown = [...at('faults').querySelectorAll('details[open]')].map(one => one.dataset.side).join(',');
      address.set('open', shown || 'none');
    };
    return group;
  }));
}
at('calm').onclick = () => act('calm', {});

// The events that the platform's own program received.

export function showEvents(events, status) {
  const waiting = status?.notify?.waiting ?? 0;
  count('events-waiting', waiting, `${waiting} waiting`);
  if (!stale('events', events)) return;
  fill(at('events'), events.map((event, n) => {
    const words = make('span', {});
    if (event.page) words.append(link(event.name ?? event.page, `event-${event.id}-${n}`, () => choose(event.page)), ' ');
    const data = event.data ?? {};
    const few = data.changed && (data.changed.length > 6 ? `${data.changed.slice(0, 5).join(', ')} and ${data.changed.length - 5} more` : data.changed.join(', '));
    const detail = few ?? data.reason ?? data.confirmation_code ?? (data.anew ? 'anew' : data.object_kept ? 'object kept' : '');
    words.append(event.type.replace('page.', ''), detail ? make('span', { className: 'dim', textContent: ` ${detail}` }) : '');
    return make('li', { className: event.taken ? '' : 'failed', data: { kind: 'event', type: event.type, page: event.page ?? '' } },
      make('time', { textContent: clock.format(event.at) }), make('i'), words);
  }));
}

// Persons and their actions. Each action names its effect and the moment at which pagesyncd finds out.

let persons = [], acts = [];
export function showPersons(state) {
  if (!stale('persons', [state.persons, state.acts.person, address.get('who')])) return;
  persons = state.persons;
  acts = state.acts.person;
  const who = persons.find(person => person.id === address.get('who')) ?? persons.find(person => person.known) ?? persons[0];
  fill(at('persons'), persons.map(person => {
    const button = make('button', { type: 'button', textContent: person.name, data: { person: person.id, key: `who-${person.id}` } });
    button.setAttribute('aria-pressed', person === who);
    button.onclick = () => { address.set('who', person.id); showPersons(state); };
    return button;
  }));
  showPerson(who);
}

function showPerson(person) {
  if (!person) return;
  const facts = person.known ? `${plural(person.runs, 'page')}, ${person.ticked} of them ticked in the latest login; ${plural(person.tokens, 'token')} alive.`
    : `Runs ${plural(person.runs, 'page')} and has not logged in yet.`;
  const soonest = person.notice_by ? `, and polls the first of them at ${clock.format(new Date(person.notice_by))}` : '';
  at('person-facts').textContent = facts;
  at('person-unnoticed').hidden = !person.unnoticed;
  at('person-unnoticed').textContent = person.unnoticed ? `pagesyncd has not found out yet for ${plural(person.unnoticed, 'link')}: it does when it reads a page${soonest}.` : '';
  fill(at('person-acts'), person.known ? acts.map(({ action, title, does, when }) => {
    const button = make('button', { type: 'button', textContent: title, data: { action, person: person.id, key: `act-${action}` } });
    button.onclick = () => perform(person, action, title);
    return describe(button, does, when);
  }) : [make('li', { className: 'dim', textContent: `${person.name} can act after a login: press “Log in with Facebook” and choose this person in the dialog.` })]);
}

let acted = 0;
export function describe(button, does, when) {
  const text = make('p', { id: `act-text-${acted += 1}` }, make('span', { textContent: does + ' ' }), make('span', { className: 'dim', textContent: when }));
  button.setAttribute('aria-describedby', text.id);
  return make('li', {}, button, text);
}

async function perform(person, action, title) {
  const done = await act('person', { person: person.id, action });
  if (!done) return;
  const what = done.tokens !== undefined ? `${plural(done.tokens, 'token')} ${action === 'expire_soon' ? 'have an end date' : 'ended'}`
    : done.removed === false ? 'it was not granted' : 'done';
  const answered = done.answered ? ` pagesyncd answered ${done.answered}.` : '';
  const { when } = acts.find(one => one.action === action);
  toast(`${person.name}: ${title.toLowerCase()}: ${what}.${answered} ${when}`);
}

// The daemon.

const sum = value => typeof value === 'number' ? value
  : value && typeof value === 'object' ? Object.values(value).reduce((all, n) => all + (typeof n === 'number' ? n : 0), 0) : null;

export function showDaemon(daemon, status) {
  const running = daemon?.state === 'running', paused = daemon?.state === 'paused';
  const pill = at('daemon-state');
  pill.dataset.state = daemon?.state ?? 'unknown';
  pill.textContent = running ? `daemon runs, pid ${daemon.pid}` : paused ? `daemon paused, pid ${daemon.pid}` : `daemon stopped${daemon?.how ? ': ' + daemon.how : ''}`;
  at('daemon-kill').disabled = !running && !paused;
  at('daemon-start').disabled = running || paused;
  at('node-daemon').classList.toggle('down', !running);
  const facts = status && typeof status === 'object' ? status : {};
  const due = sum(facts.due), parked = sum(facts.due_parked), outbox = sum(facts.outbox), links = sum(facts.links);
  const owed = [due && plural(due, 'read'), outbox && `${plural(outbox, 'write')} or ${outbox === 1 ? 'delete' : 'deletes'}`].filter(Boolean).join(', ');
  at('flow-daemon').textContent = paused ? 'is paused' : !running ? 'is not running' : links === null ? 'does not answer' : owed ? `${owed} pending`
    : parked ? `${plural(parked, 'read')} waiting for a person` : `${plural(links, 'link')}, nothing pending`;
}

export function showDifferences(rows) {
  if (!stale('differs', rows)) return;
  at('differs-short').textContent = rows.map(row => `${row.key.replace('sync.', '')} ${row.here} (${row.production})`).join(' · ');
  fill(at('differs'), rows.map(row => make('li', {}, make('code', { textContent: row.key }),
    ` is ${row.here}, by default ${row.production}: `, make('span', { className: 'dim', textContent: row.why }))));
}

at('daemon-kill').onclick = () => act('daemon', { action: 'kill' });
at('daemon-start').onclick = () => act('daemon', { action: 'start' });
