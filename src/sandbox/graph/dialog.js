const at = id => document.getElementById(id);
const rows = [...document.querySelectorAll('.page')];
const mine = row => row.dataset.roles.split(' ').includes(at('person').value);
function show() {
  const wanted = at('filter').value.toLowerCase();
  for (const row of rows) row.hidden = !mine(row) || !row.textContent.toLowerCase().includes(wanted);
}
function tick(on) {
  for (const row of rows) if (!row.hidden) row.querySelector('input').checked = on;
}
at('person').onchange = show;
at('filter').oninput = show;
at('all').onclick = () => tick(true);
at('none').onclick = () => tick(false);
at('dialog').onsubmit = () => {
  const chosen = rows.filter(row => mine(row) && row.querySelector('input').checked);
  at('chosen').value = chosen.map(row => row.dataset.page).join(',');
};
show();
