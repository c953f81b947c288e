//! What decides whether a server may get requests.
