Deno.serve({ port: 4242, hostname: "0.0.0.0" }, (_request: Request) => new Response("Hello from Deno"));
