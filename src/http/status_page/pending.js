// What is pending, the longest first, and why.

import { at, fillRows, link, make, moment, plural, span } from './base.js';
import { openDetail } from './detail.js';
import { paged } from './paging.js';
import { causesOfAll, reasons, why } from './why.js';
import { showView } from './views.js';

const rows = new Map();
const list = paged('pending', () => ({ pending: 'true', sort: 'pending' }), show);
export const refreshPending = () => list.load();

function show({ links }) {
  fillRows(at('pending-rows'), rows, links.map(one => ({ ...one, why: why(one) })), one => `${one.source}/${one.id}/${one.user}`, row);
  at('pending-table').hidden = !links.length;
  at('pending-none').hidden = links.length > 0;
  at('pending-none').textContent = 'Nothing is pending for a link.';
}

function row(one) {
  const name = link(one.name ?? one.id, `pending-${one.source}/${one.id}/${one.user}`, () => { showView('links'); openDetail(one.source, one.id); });
  return make('tr', { data: { source: one.source, id: one.id } }, make('td', {}, name),
    make('td', {}, one.pending ? reasons(one) : '–', make('span', { className: 'narrow dim', textContent: one.why })),
    make('td', {}, moment(one.pending?.since)), make('td', { className: 'extra', textContent: one.why }));
}

export function showPendingFacts(status) {
  const cleanups = Object.entries(status.cleanups ?? {}).map(([name, count]) => `${name.replaceAll('_', ' ')} ${count}`);
  const facts = [status.due !== null && `${plural(status.due, 'read')} to make`, status.due_parked > 0 && `${plural(status.due_parked, 'read')} waiting for a person`,
    status.outbox !== null && `${plural(status.outbox, 'object')} to write or delete`,
    status.oldest_owed_seconds > 0 && `the oldest pending for ${span(status.oldest_owed_seconds)}`,
    status.notify?.on && `${plural(status.notify.waiting ?? 0, 'event')} to send`, cleanups.length > 0 && `cleanups: ${cleanups.join(', ')}`];
  at('pending-facts').textContent = facts.filter(Boolean).join(' · ');
  const causes = causesOfAll();
  at('pending-causes').hidden = !causes.length;
  at('pending-causes').textContent = causes.join(' ');
}
