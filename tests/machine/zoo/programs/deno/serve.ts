export default {
  fetch(_request: Request) {
    return new Response("Hello from deno serve");
  },
};
