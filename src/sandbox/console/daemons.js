// Several daemons: what each of them holds, and the buttons of each and of their database. The lines stay in the page
// and are filled anew, because they change every second, and a press must meet the button that it began on.

import { act, at, make, plural, set } from './base.js';

let lines = new Map();

function button(key, press, className) {
  const made = make('button', { type: 'button', className, data: { key } });
  made.onclick = press;
  return made;
}

function line(name) {
  const parts = { pill: make('span', { className: 'pill small' }), facts: make('p', { className: 'dim' }), where: make('p', { className: 'dim' }), share: make('i') };
  const bar = make('div', { className: 'share' }, parts.share);
  bar.setAttribute('aria-hidden', 'true');
  const press = button => act('daemon', { daemon: name, action: button.dataset.action });
  for (const [part, className] of [['pause', ''], ['turn', ''], ['kill', 'danger']])
    parts[part] = button(`${name}-${part}`, () => press(parts[part]), className);
  parts.node = make('li', { data: { daemon: name } },
    make('div', { className: 'head' }, make('b', { textContent: name }), parts.pill, make('span', { className: 'buttons' }, parts.pause, parts.turn, parts.kill)),
    bar, parts.facts, parts.where);
  return parts;
}

function offer(button, name, text, action) {
  set(button, 'textContent', text);
  button.dataset.action = action;
  button.setAttribute('aria-label', `${text} ${name}`);
}

function showMember(member, leases) {
  const { node, pill, facts, where, share, kill, pause, turn } = lines.get(member.name);
  const stopped = member.state === 'stopped', paused = member.state === 'paused';
  node.dataset.state = pill.dataset.state = member.state;
  node.dataset.leases = member.leases ?? '';
  set(pill, 'textContent', stopped ? member.how : paused ? 'paused' : 'runs');
  const seen = member.last_seen_seconds, held = member.leases === null ? 'leases unknown' : `${member.leases} of ${plural(leases, 'lease')}`;
  set(facts, 'textContent', [held, plural(member.links, 'link'), seen !== null && `${member.overdue ? 'overdue, ' : ''}seen ${seen} s ago`].filter(Boolean).join(' · '));
  set(where, 'textContent', `http://${member.address}` + (stopped ? '' : ` · pid ${member.pid}`));
  share.style.width = `${100 * (member.leases ?? 0) / leases}%`;
  offer(pause, member.name, paused ? 'Resume' : 'Pause', paused ? 'continue' : 'pause');
  offer(turn, member.name, stopped ? 'Start' : 'Stop', stopped ? 'start' : 'stop');
  offer(kill, member.name, 'kill -9', 'kill');
  // The focus stays on the line when the button that has it goes.
  const lost = stopped && [pause, kill].includes(document.activeElement);
  pause.hidden = kill.hidden = stopped;
  if (lost) turn.focus({ preventScroll: true });
}

export function showDaemons(daemons) {
  at('fleet').hidden = !daemons;
  if (!daemons) return;
  const names = daemons.members.map(member => member.name);
  if (names.join() !== [...lines.keys()].join()) {
    lines = new Map(names.map(name => [name, line(name)]));
    at('daemons').replaceChildren(...[...lines.values()].map(parts => parts.node));
  }
  for (const member of daemons.members) showMember(member, daemons.leases);
  const { address, runs } = daemons.database;
  at('database-state').dataset.state = runs ? 'running' : 'stopped';
  set(at('database-state'), 'textContent', runs ? 'runs' : 'stopped');
  set(at('database-facts'), 'textContent', `PostgreSQL at ${address}` + (runs ? '' : ': deliveries are answered 503 and nothing is written until it runs again'));
  at('database-turn').classList.toggle('danger', runs);
  set(at('database-turn'), 'textContent', runs ? 'Stop' : 'Start');
  at('database-turn').setAttribute('aria-label', runs ? 'Stop the database' : 'Start the database');
  const alive = daemons.members.filter(member => member.state === 'running').length;
  const pill = at('daemon-state');
  pill.dataset.state = alive === names.length ? 'running' : alive ? 'paused' : 'stopped';
  set(pill, 'textContent', `${alive} of ${names.length} daemons run`);
  for (const id of ['daemon-kill', 'daemon-start']) at(id).hidden = true;
  at('node-daemon').classList.add('many');
  set(document.querySelector('header p'), 'textContent', 'A local Facebook and Shopify, a local Spaces, and real daemons on one database between them.');
  set(document.querySelector('#tabs [data-tab=daemon]'), 'textContent', 'Daemons');
}

at('database-turn').onclick = () => act('database', { action: at('database-turn').textContent === 'Stop' ? 'stop' : 'start' });
