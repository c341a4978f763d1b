//! Our client against our server: every request, plain and TLS, with and without keep-alive.

use jtp_core::ImageId;
use jtp_core::client::{ClientConfig, HaveSet};
use jtp_store::DirStore;
use jtp_tokio::{Client, ClientBuilder, Images};

use crate::support::Result;
use crate::support::bytes::TestImage;
use crate::support::files::{self, samples};
use crate::support::serve::{TestServer, in_time};
use crate::support::tls::{localhost, tls};

/// Fetches images, compares each with the expected one, and returns their IDs.
pub(crate) async fn fetch(mut images: Images<'_>, expected: &[TestImage]) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    while let Some(image) = images.next().await? {
        let head = image.image();
        let bytes = image.bytes(1 << 30).await?;
        let image = expected.iter().find(|p| p.id == head.id.0);
        let image = image.expect("an image of the folder");
        assert!(
            bytes == image.bytes,
            "{} has the expected bytes",
            image.name
        );
        assert_eq!(head.flags.file_type().code(), image.kind);
        ids.push(head.id.0);
    }
    Ok(ids)
}

fn ids<'a>(expected: impl IntoIterator<Item = &'a TestImage>) -> Vec<u64> {
    expected.into_iter().map(|image| image.id).collect()
}

async fn every_request(client: ClientBuilder, expected: &[TestImage]) -> Result {
    let mut client: Client = client.build();
    let listed = client.list().await?;
    assert_eq!(
        listed.iter().map(|e| &*e.name).collect::<Vec<_>>(),
        expected.iter().map(|p| &*p.name).collect::<Vec<_>>(),
        "S5"
    );
    let all = ids(expected);
    assert_eq!(fetch(client.list_and_get(), expected).await?, all); // S5

    // S8: duplicate and unknown IDs are ignored.
    let have: Vec<ImageId> = [all[0], all[0], 1, all[3]].map(ImageId).into();
    let missing = [&all[1..3], &all[4..]].concat();
    let have = HaveSet::try_from(have)?;
    assert_eq!(fetch(client.batch(have), expected).await?, missing);

    // S7: in the order of the request; unknown IDs are left out.
    let mut images = client.get([all[5], 1, all[2]].map(ImageId));
    let mut got = Vec::new();
    while let Some(image) = images.next().await? {
        got.push(image.image().id.0);
        image.bytes(1 << 20).await?;
    }
    assert_eq!(got, [all[5], all[2]]);
    assert_eq!(images.absent(), [ImageId(1)]);

    // N1: watching an unchanged folder yields no events, and ends by CANCEL.
    let (listed, watch) = client.list_and_watch().await?;
    assert_eq!(listed.len(), expected.len());
    assert!(watch.cancel().await?.is_empty()); // N3
    assert_eq!(client.list().await?.len(), expected.len());
    client.close().await;
    Ok(())
}

#[test]
fn every_request_in_every_configuration() -> Result {
    // S2 S5 S7 S8 R7 T1 T2, and S9: with the default compression.
    let folder = samples();
    let expected = files::images_in(folder.path());
    let store = DirStore::open_folder(folder.path())?;
    let served = TestServer::store(store, |server| server.tls(tls().server.clone()));
    for keep_alive in [true, false] {
        for pipeline in [true, false] {
            for secure in [true, false] {
                let mut client = served
                    .client()
                    .keep_alive(keep_alive)
                    .config(ClientConfig::new().with_pipeline(pipeline));
                if secure {
                    client = client.tls(tls().client(), localhost());
                }
                served
                    .block_on(in_time(every_request(client, &expected)))
                    .map_err(|error| format!("{keep_alive} {pipeline} {secure}: {error}"))?;
            }
        }
    }
    Ok(())
}
