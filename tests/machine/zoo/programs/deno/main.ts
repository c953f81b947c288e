Deno.serve((_request: Request) => new Response("Hello from Deno"));
