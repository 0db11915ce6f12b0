// The figures at the top, the dependencies, and the view of the daemons.

import { announce, at, fill, fillRows, make, moment, number, plural, set, span, stale, words } from './base.js';
import { showHealth } from './links.js';
import { showView } from './views.js';

// Words of links that need nobody.
const calm = ['active', 'throttled', 'expiring'];
export const waitingOf = health => Object.entries(health ?? {}).filter(([word]) => !calm.includes(word)).reduce((sum, [, count]) => sum + count, 0);

function dependencies(status) {
  const { store, graph, shopify, spaces, notify } = status;
  return [['Store', store], ['Graph', graph?.health], shopify?.on && ['Shopify', shopify], ['Spaces', spaces], notify?.on && ['Your receiver', notify]].filter(Boolean);
}

function need([name, health]) {
  const state = health?.ok === true ? 'running' : health?.ok === false ? 'stopped' : 'unknown';
  const says = { running: 'works', stopped: 'fails', unknown: 'not used yet' }[state];
  return make('li', { data: { need: name.toLowerCase(), state } }, make('span', { className: 'pill small', data: { state }, textContent: `${name} ${says}` }),
    state === 'stopped' && make('span', { className: 'error' }, health.error ?? '', health.since && ' ', health.since && moment(health.since)));
}

// The thing, and the way out. `pagesyncd explain CODE` has more.
function problem({ code, severity, since, message, remedy }) {
  return make('li', { data: { problem: code, severity } },
    make('p', {}, make('b', { textContent: `${words(severity)}: ` }), message),
    make('p', { className: 'remedy' }, remedy, since && ' ', since && make('span', {}, '(since ', moment(since), ')'), ' ', make('code', { textContent: code })));
}

const tile = (name, value, more, to, state = '') => {
  const button = make('button', { type: 'button', className: 'tile', data: { key: `tile-${name}`, tile: name, state } },
    make('b', { textContent: value }), make('span', { textContent: name }), make('span', { className: 'dim', textContent: more }));
  button.onclick = to;
  return button;
};
const figure = value => value === null || value === undefined ? '–' : number(value);

let announced = null;
export function showOverview(status) {
  const waiting = waitingOf(status.health), failing = dependencies(status).filter(([, health]) => health?.ok === false).map(([name]) => name);
  if (stale('problems', status.problems)) fill(at('problems'), (status.problems ?? []).map(problem));
  if (stale('needs', dependencies(status))) fill(at('needs'), dependencies(status).map(need));
  const tiles = [status.links, status.health, status.due, status.due_parked, status.outbox, status.oldest_owed_seconds];
  if (stale('tiles', tiles)) {
    const active = status.health?.active ?? 0, old = status.oldest_owed_seconds ?? 0;
    fill(at('tiles'), [
      tile('Links', figure(status.links), `${number(active)} active`, () => showHealth('')),
      tile('Waiting for a person', figure(status.health && waiting), waiting ? 'a login is needed' : 'nobody has to act', () => showView('waiting'), waiting ? 'late' : ''),
      tile('Pending reads', figure(status.due), status.due_parked ? `${number(status.due_parked)} more wait for a person` : 'of what can be read now', () => showView('pending')),
      tile('Pending writes', figure(status.outbox), 'writes and deletes', () => showView('pending')),
      tile('Oldest pending', status.oldest_owed_seconds === null ? '–' : old ? span(old) : 'none', 'of what can be done now', () => showView('pending'), old > 600 ? 'late' : ''),
    ]);
    const healths = Object.entries(status.health ?? {}).sort(([a], [b]) => calm.includes(a) - calm.includes(b) || a.localeCompare(b));
    fill(at('healths'), healths.map(([word, count]) => {
      const button = make('button', { type: 'button', data: { key: `health-${word}`, health: word } }, `${words(word)} `, make('b', { textContent: number(count) }));
      button.onclick = () => showHealth(word);
      return button;
    }));
    set(at('waiting-count'), 'textContent', waiting ? number(waiting) : '');
    const pending = (status.due ?? 0) + (status.outbox ?? 0);
    set(at('pending-count'), 'textContent', pending ? number(pending) : '');
  }
  const worst = (status.problems ?? []).find(one => one.severity === 'critical');
  const says = [worst?.message, failing.length && `${failing.join(', ')} ${failing.length === 1 ? 'fails' : 'fail'}`, waiting && `${plural(waiting, 'link')} waiting for a person`].filter(Boolean).join('; ') || 'all is in order';
  if (announced !== null && announced !== says) announce(says);
  announced = says;
}

const fact = (name, value) => make('div', {}, make('dt', { textContent: name }), make('dd', {}, value ?? '–'));
const bytes = size => size === null || size === undefined ? '–' : size < 1e6 ? `${number(Math.round(size / 1e3))} kB` : `${number(Math.round(size / 1e6))} MB`;

export function showDaemons(status) {
  showCluster(status.cluster);
  const { config, store, graph, notify } = status, gate = graph?.gate ?? {};
  if (stale('daemon', [status.version, status.pid, status.started_at, config, store, gate, notify])) fill(at('daemon-facts'), [
    fact('Version', status.version), fact('Process', String(status.pid)), fact('Started', moment(status.started_at)),
    fact('Configuration read', moment(config.loaded_at)), config.last_error && fact('Last reload refused', config.last_error),
    fact('Store', store?.ok ? bytes(store.bytes_on_disk) : store?.error), store?.damaged_records > 0 && fact('Damaged records', String(store.damaged_records)),
    fact('Graph version', graph?.version), gate.app_usage_percent !== undefined && fact('Graph usage', `${gate.app_usage_percent ?? 0} %`),
    gate.app_blocked_until && fact('Graph blocks the app until', moment(gate.app_blocked_until)),
    notify?.on && fact('Events to send', number(notify.waiting ?? 0)),
  ].filter(Boolean));
  set(at('status-document'), 'textContent', JSON.stringify(status, null, 2));
}

const rows = new Map();
function showCluster(cluster) {
  at('cluster').hidden = !cluster;
  if (!cluster) return;
  fillRows(at('cluster-rows'), rows, cluster.daemons.map(one => ({ ...one, all: cluster.leases })), one => one.id, one => {
    const bar = make('i', {}), share = make('div', { className: 'share' }, bar);
    share.setAttribute('aria-hidden', 'true');
    bar.style.width = `${100 * one.leases / one.all}%`;
    return make('tr', { data: { daemon: one.node, overdue: one.overdue } },
      make('td', {}, make('b', { textContent: one.node }), one.this && make('span', { className: 'badge', textContent: 'this one' }), make('span', { className: 'narrow dim', textContent: `id ${one.id}, ${one.version}` })),
      make('td', {}, share, `${number(one.leases)} of ${number(one.all)}`), make('td', { className: 'extra', textContent: `${one.version}, id ${one.id}` }),
      make('td', {}, one.overdue ? make('span', { className: 'badge', data: { health: 'overdue' }, textContent: `overdue, ${span(one.last_seen_seconds)}` }) : `${span(one.last_seen_seconds)} ago`));
  });
  const changed = cluster.database_changed;
  at('cluster-facts').textContent = [`Database: ${cluster.database}`, cluster.answers === false && 'it does not answer', changed && `changed ${new Date(changed.at).toLocaleString()}: ${changed.reason}`, ...(cluster.warnings ?? [])].filter(Boolean).join(' · ');
}

export function showIdentity(status) {
  const identity = at('identity');
  if (!identity) return;
  const here = status.cluster?.daemons.find(one => one.this);
  set(identity, 'textContent', [`${status.version}`, here && `daemon ${here.node}`, `${plural(status.links ?? 0, 'link')}`].filter(Boolean).join(' · '));
  const waiting = waitingOf(status.health);
  document.title = waiting ? `(${number(waiting)}) pagesyncd status` : 'pagesyncd status';
}
