//! Our client and our server: every request, plain and TLS, with keep-alive and without.

use jtp_core::client::{ClientConfig, HaveSet};
use jtp_core::{ImageFault, ImageId};
use jtp_store::DirStore;
use jtp_tokio::{Client, ClientBuilder, ImageError, Images};

use crate::support::Result;
use crate::support::bytes::Picture;
use crate::support::files::{self, samples};
use crate::support::serve::{Served, in_time};
use crate::support::tls::{localhost, tls};

/// The images as they come: their IDs, each verified against the picture that it has to be.
pub(crate) async fn fetch(mut images: Images<'_>, pictures: &[Picture]) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    while let Some(image) = images.next().await? {
        let head = image.image();
        let bytes = image.bytes(1 << 30).await?;
        let picture = pictures.iter().find(|p| p.id == head.id.0);
        let picture = picture.expect("an image that the folder has");
        assert!(bytes == picture.bytes, "{} is itself", picture.name);
        assert_eq!(head.flags.file_type().code(), picture.kind);
        ids.push(head.id.0);
    }
    Ok(ids)
}

fn ids<'a>(pictures: impl IntoIterator<Item = &'a Picture>) -> Vec<u64> {
    pictures.into_iter().map(|picture| picture.id).collect()
}

async fn every_request(client: ClientBuilder, pictures: &[Picture]) -> Result {
    let mut client: Client = client.build();
    let listed = client.list().await?;
    assert_eq!(
        listed.iter().map(|e| &*e.name).collect::<Vec<_>>(),
        pictures.iter().map(|p| &*p.name).collect::<Vec<_>>(),
        "S5"
    );
    let all = ids(pictures);
    assert_eq!(fetch(client.list_and_get(), pictures).await?, all); // S5

    // S8: doubled and unknown IDs are ignored.
    let have: Vec<ImageId> = [all[0], all[0], 1, all[3]].map(ImageId).into();
    let lacking = [&all[1..3], &all[4..]].concat();
    let have = HaveSet::try_from(have)?;
    assert_eq!(fetch(client.batch(have), pictures).await?, lacking);

    // S7: in the order asked; unknown ones are left out.
    let mut images = client.get([all[5], 1, all[2]].map(ImageId));
    let mut got = Vec::new();
    while let Some(image) = images.next().await? {
        got.push(image.image().id.0);
        image.bytes(1 << 20).await?;
    }
    assert_eq!(got, [all[5], all[2]]);
    assert_eq!(images.absent(), [ImageId(1)]);

    // N1, in the middle of the folder's life: watching an idle folder tells nothing, and ends when told to.
    let (listed, watch) = client.list_and_watch().await?;
    assert_eq!(listed.len(), pictures.len());
    assert!(watch.cancel().await?.is_empty()); // N3
    assert_eq!(client.list().await?.len(), pictures.len());
    client.close().await;
    Ok(())
}

#[test]
fn every_request_plain_and_tls_keep_alive_and_not_pipelined_and_not() -> Result {
    // S2 S5 S7 S8 R7 T1 T2, and S9: with compression as it is by default.
    let folder = samples();
    let pictures = files::pictures(folder.path());
    let store = DirStore::open_folder(folder.path())?;
    let served = Served::store(store, |server| server.tls(tls().server.clone()));
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
                    .block_on(in_time(every_request(client, &pictures)))
                    .map_err(|error| format!("{keep_alive} {pipeline} {secure}: {error}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn many_clients_at_once() -> Result {
    let served = Served::samples();
    let pictures = served.pictures();
    served.block_on(in_time(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let (client, pictures) = (served.client(), pictures.clone());
            tasks.spawn(async move {
                let mut client = client.build();
                let got = fetch(client.list_and_get(), &pictures).await;
                got.map(|got| got.len()).map_err(|error| error.to_string())
            });
        }
        for got in tasks.join_all().await {
            assert_eq!(got?, pictures.len());
        }
        Ok(())
    }))
}

#[test]
fn an_empty_folder_answers_everything() -> Result {
    let served = Served::folder(files::folder_of([]));
    served.block_on(in_time(async {
        let mut client = served.client().build();
        assert!(client.list().await?.is_empty());
        assert!(fetch(client.list_and_get(), &[]).await?.is_empty());
        assert!(
            fetch(client.batch(HaveSet::default()), &[])
                .await?
                .is_empty()
        );
        assert!(fetch(client.get([ImageId(1)]), &[]).await?.is_empty());
        Ok(())
    }))
}

#[test]
fn r4_an_image_over_the_limit_fails_alone_raw_and_compressed() -> Result {
    let folder = files::folder_of([
        ("a.bmp", files::bmp(500_000, 1)),
        ("b.png", files::noise(60_000, 2)),
        ("c.png", files::noise(50_000, 3)),
    ]);
    let served = Served::store(DirStore::open_folder(folder.path())?, |server| server);
    served.wait_for(|catalog| catalog.entries().any(|e| e.flags.is_compressed()));
    served.block_on(in_time(async {
        let config = ClientConfig::new().with_max_image_size(50_000);
        let mut client = served.client().config(config).build();
        let (mut came, mut failed) = (Vec::new(), 0);
        let mut images = client.list_and_get();
        while let Some(image) = images.next().await? {
            match image.bytes(1 << 30).await {
                Ok(bytes) => came.push(bytes),
                Err(ImageError::Fault {
                    fault: ImageFault::TooLarge { limit },
                    ..
                }) => {
                    assert_eq!(limit, 50_000);
                    failed += 1;
                }
                Err(other) => return Err(other.into()),
            }
        }
        assert_eq!(came, [files::noise(50_000, 3)]);
        assert!(failed >= 2, "{failed}");
        Ok(())
    }))
}
