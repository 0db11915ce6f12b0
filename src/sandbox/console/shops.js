// The shops: the app on them, their products, and the faults that strike one of them alone.

import { act, address, ask, at, fill, isOn, link, make, plural, refresh, toast } from './base.js';
import { count, faultSwitch } from './panels.js';

const words = { equal: 'in step', behind: 'behind', none: 'no object' };
const view = { shop: null, offset: address.number('products'), limit: 10, total: 0, product: address.number('product'), selected: null, install: '', dirty: false };
at('product-search').value = address.get('find');

let shops = [], shown = '';
// From the state of everything: the choice among the shops, and the facts of the chosen one.
export function showShops(all) {
  const ailing = all.filter(shop => shop.health && shop.health !== 'active').length;
  count('shops-ailing', ailing, `${plural(ailing, 'shop')} in need of attention`);
  const says = JSON.stringify([all, view.shop]);
  if (says === shown) return;
  shops = all;
  if (shops.length && !shops.some(shop => shop.id === view.shop)) {
    view.shop = (shops.find(shop => shop.id === address.get('shop')) ?? shops[0]).id;
    // Its products are read next.
    refresh();
  }
  shown = JSON.stringify([all, view.shop]);
  fill(at('shops'), shops.map(shop => {
    const badge = shop.health ? make('span', { className: 'badge', textContent: shop.health.replaceAll('_', ' '), data: shop.health === 'active' ? { standing: 'equal' } : { health: shop.health } }) : null;
    const button = make('button', { type: 'button', data: { shop: shop.id, key: `shop-${shop.id}` } }, shop.name, badge);
    button.setAttribute('aria-pressed', shop.id === view.shop);
    button.onclick = () => choose(shop.id);
    return button;
  }));
  const shop = shops.find(one => one.id === view.shop);
  if (!shop) return;
  const linked = shop.health ? `pagesyncd: ${[shop.health.replaceAll('_', ' '), shop.reason, shop.remedy && `what to do: ${shop.remedy}`].filter(Boolean).join('; ')}` : 'not linked';
  at('shop-facts').textContent = [shop.id, `${plural(shop.products, 'product')}, ${plural(shop.collections, 'collection')}`,
    shop.installed ? 'the app is installed' : 'the app is not installed', linked].join(' · ');
  at('shop-install').textContent = shop.installed ? 'Install again' : 'Install the app';
  at('shop-uninstall').disabled = !shop.installed;
}

function choose(shop) {
  Object.assign(view, { shop, offset: 0, product: 0, selected: null, dirty: false });
  address.set('shop', shop);
  keep();
  refresh();
}

function keep() {
  address.set('products', view.offset);
  address.set('product', view.product);
  address.set('find', at('product-search').value);
}

let listed = '';
// The products of the chosen shop, while they are in view.
export async function showShop() {
  if (!view.shop || at('panel-shops').hidden) return;
  const asked = view.shop;
  const query = new URLSearchParams({ search: at('product-search').value, offset: view.offset, product: view.product });
  const shop = await ask(`shops/${encodeURIComponent(asked)}?${query}`);
  if (shop.id !== view.shop) return;
  if (view.offset && view.offset >= shop.total) { view.offset = 0; keep(); return showShop(); }
  Object.assign(view, { total: shop.total, limit: shop.limit, selected: shop.selected, install: shop.install_url });
  const says = JSON.stringify([shop, view.product]);
  if (says === listed) return;
  listed = says;
  fill(at('product-rows'), shop.rows.map(rowOf));
  const last = Math.min(view.offset + shop.limit, shop.total);
  at('product-range').textContent = shop.total ? `${view.offset + 1}–${last} of ${shop.total}` : 'none';
  at('product-prev').disabled = view.offset === 0;
  at('product-next').disabled = last >= shop.total;
  at('product').hidden = !shop.selected;
  if (shop.selected && !view.dirty) fillForm(shop.selected);
  fill(at('shop-faults'), shop.faults.map(fault => faultSwitch(fault, flip)));
  const on = shop.faults.filter(fault => fault.on).length;
  at('shop-faults-group').firstElementChild.textContent = `Faults of this shop alone${on ? `: ${on} on` : ''}`;
}

function rowOf(row) {
  const more = [row.price, `${row.stock} in stock`, row.variants > 1 && plural(row.variants, 'variant'), row.status !== 'ACTIVE' && row.status.toLowerCase()];
  const name = link(row.title, `product-${row.id}`, () => pick(row.id));
  name.setAttribute('aria-pressed', row.id === view.product);
  const line = make('tr', { data: { product: row.id, standing: row.standing, selected: row.id === view.product } }, make('td', {}, name),
    make('td', { className: 'dim', textContent: more.filter(Boolean).join(' · ') }),
    make('td', {}, make('span', { className: 'badge', textContent: words[row.standing], data: { standing: row.standing } })));
  return line;
}

function pick(product) {
  Object.assign(view, { product, dirty: false });
  // What was typed for another one, and not saved, is gone.
  listed = '';
  keep();
  refresh();
}

function fillForm(product) {
  at('product-title').value = product.title;
  at('product-price').value = product.price;
  at('product-stock').value = product.stock;
}

const onProduct = (action, more = {}) => act('product', { shop: view.shop, product: view.product, action, ...more });
function flip(button) { act('shop_fault', { shop: view.shop, fault: button.dataset.fault, on: !isOn(button) }); }

at('product').onsubmit = async event => {
  event.preventDefault();
  const done = await onProduct('edit', { title: at('product-title').value, price: at('product-price').value, stock: Number(at('product-stock').value) });
  if (!done) return;
  view.dirty = false;
  if (!done.changed) toast('It says that already.');
};
for (const id of ['product-title', 'product-price', 'product-stock']) at(id).oninput = () => { view.dirty = true; };
at('product-sell').onclick = () => { view.dirty = false; onProduct('sell'); };
at('product-delete').onclick = async () => { if (await onProduct('delete')) pick(0); };
at('product-new').onclick = async () => {
  const done = await act('product', { shop: view.shop, action: 'create', title: `New product ${view.total + 1}` });
  if (!done) return;
  at('product-search').value = '';
  view.offset = Math.floor(view.total / view.limit) * view.limit;
  pick(done.product);
};
at('shop-uninstall').onclick = () => act('shop', { shop: view.shop, action: 'uninstall' });
// Opened within the click, or the browser takes it for an unwanted window.
at('shop-install').onclick = () => { if (view.install) window.open(view.install, '_blank', 'noopener'); };

function turnTo(offset) { view.offset = Math.max(0, offset); keep(); refresh(); }
at('product-search').oninput = () => turnTo(0);
at('product-prev').onclick = () => turnTo(view.offset - view.limit);
at('product-next').onclick = () => turnTo(view.offset + view.limit);
// What is out of view is not asked for, so the list is read when its tab opens.
at('tabs').addEventListener('click', () => refresh());
at('tabs').addEventListener('keydown', () => refresh());
