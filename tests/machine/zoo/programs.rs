//! The programs of the zoo: one row for each. Their folders are in `programs/`; `fetch` installs them in `/opt`.

/// A program that people run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    /// Its name as an app.
    pub(crate) app: &'static str,
    /// Where it is from, and what says which version is tried: `npm next`, `PyPI fastapi`, `Debian puma`.
    pub(crate) package: &'static str,
    /// Its folder in `/opt`.
    pub(crate) folder: &'static str,
    /// What is typed there.
    pub(crate) typed: &'static str,
    /// What is to become of it.
    pub(crate) expected: Expected,
}

/// What is to become of a program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    /// It answers requests for this path with a text that has this part.
    Serves(&'static str, &'static str),
    /// It sends back what is said to it over a WebSocket.
    Echoes,
    /// It serves no HTTP: beside it runs this, and this file has the number of things that it has done.
    Works(&'static str, &'static str),
    /// It is refused, with a sentence that has this part.
    Refused(&'static str),
}

use Expected::{Echoes, Refused, Serves, Works};

const fn row(
    app: &'static str,
    package: &'static str,
    folder: &'static str,
    typed: &'static str,
    expected: Expected,
) -> Program {
    Program { app, package, folder, typed, expected }
}

/// Those that `make test` tries: one of each kind, and none that has to be built.
pub(crate) const FEW: [&str; 5] = ["npm-start", "tsx", "socket-io", "grammy", "nodemon"];

/// All.
#[rustfmt::skip]
pub(crate) const PROGRAMS: &[Program] = &[
    // === Node's own and its frameworks ===
    row("express", "npm express", "node", "roundsman start express.js -n 2", Serves("/", "Hello from Express")),
    row("npm-start", "npm express", "node", "roundsman start -n 2 -- npm start", Serves("/", "Hello from Express")),
    row("bin-www", "npm express", "node", "roundsman start bin/www -n 2", Serves("/", "Hello from bin/www")),
    row("fastify", "npm fastify", "node", "roundsman start fastify.js -n 2", Serves("/", "from Fastify")),
    row("koa", "npm koa", "node", "roundsman start koa.js -n 2", Serves("/", "Hello from Koa")),
    row("hapi", "npm @hapi/hapi", "node", "roundsman start hapi.js -n 2", Serves("/", "Hello from hapi")),
    row("hono", "npm @hono/node-server", "node", "roundsman start hono.mjs -n 2", Serves("/", "Hello from Hono")),
    row("polka", "npm polka", "node", "roundsman start polka.js -n 2", Serves("/", "Hello from Polka")),
    row("apollo", "npm @apollo/server", "node", "roundsman start apollo.mjs -n 2", Serves("/?query=%7Bhello%7D", "from Apollo")),
    row("yoga", "npm graphql-yoga", "node", "roundsman start yoga.mjs -n 2", Serves("/?query=%7Bhello%7D", "from Yoga")),
    row("trpc", "npm @trpc/server", "node", "roundsman start trpc.mjs -n 2", Serves("/hello", "from tRPC")),
    row("socket-io", "npm socket.io", "node", "roundsman start socket-io.js -n 2", Serves("/socket.io/?EIO=4&transport=polling", "sid")),
    row("ws", "npm ws", "node", "roundsman start ws.js -n 2", Echoes),
    row("cluster", "npm express", "node", "roundsman start cluster.js -n 2", Serves("/", "Hello from cluster")),
    row("tsx", "npm tsx", "node", "roundsman start -n 2 -- npx tsx server.ts", Serves("/", "Hello from TypeScript")),
    row("tsx-file", "npm tsx", "node", "roundsman start server.ts -n 2", Serves("/", "Hello from TypeScript")),
    row("npm-run", "npm tsx", "node", "roundsman start -n 2 -- npm run serve", Serves("/", "Hello from TypeScript")),
    row("node-ts", "npm tsx", "node", "roundsman start -n 2 -- node server.ts", Serves("/", "Hello from TypeScript")),
    row("serve", "npm serve", "node", "roundsman start -n 2 -- npx serve public", Serves("/", "Hello from a file")),
    row("http-server", "npm http-server", "node", "roundsman start -n 2 -- npx http-server public", Serves("/", "Hello from a file")),
    row("nodemon", "npm nodemon", "node", "roundsman start -n 2 -- npx nodemon express.js", Refused("roundsman start --name NAME -- node express.js")),
    row("npm-dev", "npm nodemon", "node", "roundsman start -n 2 -- npm run dev", Refused("roundsman start --name NAME -- node express.js")),
    row("npm-built", "npm express", "node", "roundsman start -n 2 -- npm run built", Refused("roundsman start --name NAME -- node express.js")),
    row("grammy", "npm grammy", "node", "roundsman start bot.js --listen none", Works("node telegram.js", "/tmp/replies")),
    row("bullmq", "npm bullmq", "node", "roundsman start worker.js -n 2 --listen none", Works("node feed.js", "/tmp/paint")),
    // === what is built first ===
    row("next", "npm next", "next", "roundsman start -n 2 -- npm start", Serves("/", "Hello from Next.js")),
    row("next-start", "npm next", "next", "roundsman start -n 2 -- npx next start -p 3000", Serves("/", "Hello from Next.js")),
    row("next-standalone", "npm next", "next", "roundsman start .next/standalone/server.js -n 2", Serves("/", "Hello from Next.js")),
    row("nest", "npm @nestjs/core", "nest", "roundsman start -n 2 -- npm run start:prod", Serves("/", "Hello from Nest")),
    row("nest-start", "npm @nestjs/core", "nest", "roundsman start -n 2 -- npm start", Serves("/", "Hello from Nest")),
    row("nuxt", "npm nuxt", "nuxt", "roundsman start .output/server/index.mjs -n 2", Serves("/", "Hello from Nuxt")),
    row("nuxt-preview", "npm nuxt", "nuxt", "roundsman start -n 2 -- npm run preview", Serves("/", "Hello from Nuxt")),
    row("nitro", "npm nitropack", "nitro", "roundsman start . -n 2", Serves("/", "Hello from Nitro")),
    row("sveltekit", "npm @sveltejs/kit", "sveltekit", "roundsman start -n 2 -- node build", Serves("/", "Hello from SvelteKit")),
    row("vite-preview", "npm vite", "sveltekit", "roundsman start -n 2 -- npm run preview", Refused("chown -R USER /opt/sveltekit")),
    row("react-router", "npm react-router", "react-router", "roundsman start -n 2 -- npm start", Serves("/", "Hello from React Router")),
    row("astro", "npm astro", "astro", "roundsman start -n 2 -- npm start", Serves("/", "Hello from Astro")),
    row("astro-preview", "npm astro", "astro", "roundsman start -n 2 -- npx astro preview", Refused("chown -R USER /opt/astro")),
    // === other runtimes ===
    row("bun", "npm @oven/bun-linux-x64", "bun", "roundsman start -n 2 -- bun run index.ts", Serves("/", "Hello from Bun")),
    row("bun-default", "npm @oven/bun-linux-x64", "bun", "roundsman start -n 2 -- bun default.ts", Serves("/", "Hello from Bun")),
    row("bun-start", "npm @oven/bun-linux-x64", "bun", "roundsman start -n 2 -- bun start", Serves("/", "Hello from Bun")),
    row("deno", "npm @deno/linux-x64-glibc", "deno", "roundsman start -n 2 -- deno run --allow-net main.ts", Serves("/", "Hello from Deno")),
    row("deno-serve", "npm @deno/linux-x64-glibc", "deno", "roundsman start -n 2 -- deno serve serve.ts", Serves("/", "Hello from deno serve")),
    row("deno-fixed", "npm @deno/linux-x64-glibc", "deno", "roundsman start -n 2 -- deno run --allow-net fixed.ts", Serves("/", "Hello from Deno")),
    // === Python ===
    row("fastapi", "PyPI fastapi", "python", "roundsman start main.py -n 2", Serves("/", "Hello from FastAPI")),
    row("uvicorn", "PyPI uvicorn", "python", "roundsman start -n 2 -- .venv/bin/uvicorn main:app", Serves("/", "Hello from FastAPI")),
    row("uvicorn-port", "PyPI uvicorn", "python", "roundsman start -n 2 -- .venv/bin/uvicorn main:app --host 0.0.0.0 --port 8000", Serves("/", "Hello from FastAPI")),
    row("fastapi-run", "PyPI fastapi-cli", "python", "roundsman start -n 2 -- .venv/bin/fastapi run main.py", Serves("/", "Hello from FastAPI")),
    row("hypercorn", "PyPI hypercorn", "python", "roundsman start -n 2 -- .venv/bin/hypercorn main:app", Serves("/", "Hello from FastAPI")),
    row("granian", "PyPI granian", "python", "roundsman start -n 2 -- .venv/bin/granian --interface asgi main:app", Serves("/", "Hello from FastAPI")),
    row("gunicorn", "PyPI gunicorn", "python", "roundsman start -n 2 -- .venv/bin/gunicorn app:app", Serves("/", "Hello from Flask")),
    row("gunicorn-bind", "PyPI gunicorn", "python", "roundsman start -n 2 -- .venv/bin/gunicorn -w 2 -b 127.0.0.1:4000 app:app", Serves("/", "Hello from Flask")),
    row("gunicorn-uvicorn", "PyPI gunicorn", "python", "roundsman start -n 2 -- .venv/bin/gunicorn -k uvicorn.workers.UvicornWorker main:app", Serves("/", "Hello from FastAPI")),
    row("flask", "PyPI flask", "python", "roundsman start app.py -n 2", Serves("/", "Hello from Flask")),
    row("flask-run", "PyPI flask", "python", "roundsman start -n 2 -- .venv/bin/flask run", Serves("/", "Hello from Flask")),
    row("flask-app-run", "PyPI flask", "python", "roundsman start flask_run.py -n 2", Serves("/", "Hello from Flask")),
    row("waitress", "PyPI waitress", "python", "roundsman start -n 2 -- .venv/bin/waitress-serve app:app", Serves("/", "Hello from Flask")),
    row("django", "PyPI django", "python", "roundsman start -n 2 -- .venv/bin/gunicorn mysite.wsgi", Serves("/", "Hello from Django")),
    row("django-asgi", "PyPI django", "python", "roundsman start -n 2 -- .venv/bin/uvicorn mysite.asgi:application", Serves("/", "Hello from Django")),
    row("daphne", "PyPI daphne", "python", "roundsman start -n 2 -- .venv/bin/daphne mysite.asgi:application", Serves("/", "Hello from Django")),
    row("runserver", "PyPI django", "python", "roundsman start -n 2 -- .venv/bin/python manage.py runserver", Serves("/", "Hello from Django")),
    row("aiohttp", "PyPI aiohttp", "python", "roundsman start aiohttp_app.py -n 2", Serves("/", "Hello from aiohttp")),
    row("tornado", "PyPI tornado", "python", "roundsman start tornado_app.py -n 2", Serves("/", "Hello from Tornado")),
    row("sanic", "PyPI sanic", "python", "roundsman start -n 2 -- .venv/bin/sanic sanic_app:app", Serves("/", "Hello from Sanic")),
    row("celery", "PyPI celery", "python", "roundsman start -n 2 --listen none -- .venv/bin/celery -A tasks worker", Works(".venv/bin/python feed.py", "/tmp/added")),
    // === Debian's ===
    row("python-http", "Debian python3", "php", "roundsman start -n 2 -- python3 -m http.server 8000", Serves("/index.php", "Hello from PHP")),
    row("php", "Debian php-cli", "php", "roundsman start -n 2 -- php -S 0.0.0.0:8000", Serves("/", "Hello from PHP")),
    row("sinatra", "Debian ruby-sinatra", "ruby", "roundsman start -n 2 -- APP_ENV=production ruby app.rb", Serves("/", "Hello from Sinatra")),
    row("puma", "Debian puma", "ruby", "roundsman start -n 2 -- puma", Serves("/", "Hello from Rack")),
    row("rackup", "Debian ruby-rack", "ruby", "roundsman start -n 2 -- rackup", Serves("/", "Hello from Rack")),
    row("go-port", "Debian golang-go", "go", "roundsman start bin/port -n 2", Serves("/", "Hello from Go")),
    row("go-inherits", "Debian golang-go", "go", "roundsman start -n 2 -- bin/inherits", Serves("/", "Hello from Go")),
    row("go-fixed", "Debian golang-go", "go", "roundsman start bin/fixed -n 2", Serves("/", "Hello from Go")),
];
