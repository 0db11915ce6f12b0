// The views and their tabs. The console has one view more, the world.

import { address, at } from './base.js';

const tabs = [...document.querySelectorAll('#views [role=tab]')];
const shown = [];
export const onView = work => shown.push(work);
export const view = () => document.body.dataset.view;
// A view of the daemon, and not the world around it.
export const isStatus = () => view() !== 'world';

export function showView(name, focus = false) {
  const wanted = tabs.find(tab => tab.dataset.view === name) ?? tabs[0];
  document.body.dataset.view = wanted.dataset.view;
  for (const tab of tabs) {
    const on = tab === wanted;
    tab.setAttribute('aria-selected', on);
    tab.tabIndex = on ? 0 : -1;
    if (on && focus) tab.focus();
    if (on) tab.scrollIntoView({ block: 'nearest', inline: 'nearest' });
    at(tab.getAttribute('aria-controls')).hidden = !on;
  }
  at('status').hidden = !isStatus();
  address.set('view', wanted === tabs[0] ? '' : wanted.dataset.view);
  for (const work of shown) work(wanted.dataset.view);
}

for (const tab of tabs) tab.onclick = () => showView(tab.dataset.view);
at('views').onkeydown = event => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  const now = tabs.findIndex(tab => tab.getAttribute('aria-selected') === 'true');
  showView(tabs[(now + by + tabs.length) % tabs.length].dataset.view, true);
  event.preventDefault();
};
