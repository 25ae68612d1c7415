//! The transport's documentation and the model speak of the same steps.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use protocol_model::Step;

#[test]
fn the_transport_names_the_steps_of_the_model() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../celery-redis/src/transport");
    let mut named = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            named.extend(
                text.split("Model step: `")
                    .skip(1)
                    .map(|rest| rest.split('`').next().unwrap_or_default().to_owned()),
            );
        }
    }

    assert_eq!(named, Step::NAMES.map(str::to_owned).into());
}
