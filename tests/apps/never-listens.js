// Runs, and does nothing.
setInterval(() => {}, 1000);
