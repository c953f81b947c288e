//! Servers that answer anything at any moment: no client gets a byte of what answers another's request, a
//! body that was cut off does not look whole, nobody waits for ever, and no server gets two requests in
//! one.

use crate::common::random::Random;
use crate::http::http2::support::run;

use super::neighbours::Neighbourhood;

const REQUESTS: usize = 96;

#[test]
fn every_client_gets_its_own_answers() {
    let mut all = Neighbourhood::start();
    for seed in super::rounds("responses") {
        let before = all.owned();
        all.next();
        std::thread::scope(|scope| {
            for client in 0..3 {
                let all = &all;
                scope.spawn(move || all.ask(&mut Random(seed ^ client << 32), REQUESTS));
            }
            scope.spawn(|| run(all.ask_http2(&mut Random(seed ^ 7 << 32), REQUESTS)));
            scope.spawn(|| all.ask_the_good_one(REQUESTS));
        });
        all.assert_nothing_was_wrong(seed);
        assert!(all.owned() - before > REQUESTS / 2, "nearly nothing is answered");
    }
}
