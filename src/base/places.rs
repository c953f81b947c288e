//! How many connections a socket serves: in all, and of one user, so that nobody can take the
//! places of the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The places of one kind of peers.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    taken: Arc<Mutex<HashMap<u32, usize>>>,
    each: usize,
    all: usize,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    user: u32,
}

impl Places {
    /// This many for each user, and this many in all.
    pub(crate) fn new(each: usize, all: usize) -> Self {
        Self { taken: Arc::default(), each, all }
    }

    /// A place for this user, if there is one.
    pub(crate) fn take(&self, user: u32) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = taken.get(&user).copied().unwrap_or_default();
        if of_user >= self.each || taken.values().sum::<usize>() >= self.all {
            return None;
        }
        taken.insert(user, of_user + 1);
        Some(Place { places: self.clone(), user })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_takes_the_places_of_another() {
        let places = Places::new(2, 3);
        let of_one = [places.take(1), places.take(1)];
        assert!(of_one.iter().all(Option::is_some) && places.take(1).is_none());
        let of_another = places.take(2);
        assert!(of_another.is_some() && places.take(3).is_none(), "three in all");
        drop(of_one);
        assert!(places.take(1).is_some());
        drop(of_another);
        assert!(places.taken.lock().unwrap().is_empty(), "nothing is kept of who has left");
    }
}
