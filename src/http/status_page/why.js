// Why something is pending: what asked for it, and what holds it up.

import { plural } from './base.js';

const causes = { webhook: 'a read after a webhook', poll: 'a poll', link: 'the first read after a login or an import', manual: 'a read that an operator asked for' };

let status = {};
export function noteStatus(now) { status = now; }

export function reasons(one) {
  const { read, writes } = one.pending;
  return [read && causes[read], writes && `${plural(writes, 'write')} to Spaces`].filter(Boolean).join(', ');
}

// What holds up all links alike.
export function causesOfAll() {
  const { graph, shopify, spaces, store } = status, found = [];
  if (store?.ok === false) found.push(`The store fails: ${store.error}.`);
  if (graph?.gate?.app_blocked_until) found.push(`Graph blocks the app until ${new Date(graph.gate.app_blocked_until).toLocaleTimeString()}.`);
  if (graph?.health?.ok === false) found.push(`Graph fails: ${graph.health.error}.`);
  if (shopify?.on && shopify.ok === false) found.push(`Shopify fails: ${shopify.error}.`);
  if (spaces?.ok === false) found.push(`Spaces fails: ${spaces.error}.`);
  return found;
}

export function why(one) {
  const { graph, shopify, spaces } = status, found = [];
  if (one.owed_parked) found.push(`waits for a person: ${one.reason ?? one.health}`);
  else if (one.health === 'throttled') found.push(`${one.reason}, until ${new Date(one.until).toLocaleTimeString()}`);
  else if (one.reason) found.push(`${one.reason}; it is tried again`);
  if (one.pending?.read && !one.owed_parked) {
    if (one.source === 'facebook' && graph?.health?.ok === false) found.push('Graph fails');
    if (one.source === 'shopify' && shopify?.ok === false) found.push('Shopify fails');
  }
  if (one.pending?.writes && spaces?.ok === false) found.push('Spaces fails');
  return found.join('; ') || 'it is about to be done';
}
