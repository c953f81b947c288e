//! The shared session store.
