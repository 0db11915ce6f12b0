(async () => {
  const main = document.querySelector('main');
  const at = main.dataset.at;
  // The address of the callback holds a code that is spent; a reload is to show the result.
  try { history.replaceState(null, '', at); } catch { /* another origin: the address stays */ }
  for (let turn = 0; main.hasAttribute('data-refresh'); turn++) {
    await new Promise((resolve) => setTimeout(resolve, Math.min(800 + 200 * turn, 5000)));
    try {
      const answer = await fetch(at, { headers: { accept: 'text/html' } });
      if (answer.status === 404) return location.replace(at);
      if (!answer.ok) continue;
      const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
      for (const part of ['h1', '#standing', '#rest']) {
        const [old, young] = [document.querySelector(part), fresh.querySelector(part)];
        if (old.innerHTML !== young.innerHTML) old.replaceChildren(...young.childNodes);
      }
      document.title = fresh.title;
      if (!fresh.querySelector('main').hasAttribute('data-refresh')) main.removeAttribute('data-refresh');
    } catch { /* the network is away for a moment */ }
  }
})();
