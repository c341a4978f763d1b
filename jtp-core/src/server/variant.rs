//! Images that are sent in another variant than the snapshot listed.

use super::output::{Responding, ResponseBody};
use super::{BodyRequest, ServerConnection, State};
use crate::Misuse;
use crate::image::Image;
use crate::time::Time;

impl ServerConnection {
    /// Answers [`BodyRequest::Open`] with the variant of the image that was opened, and with the number of its bytes that
    /// are loaded. The packet's head describes this variant.
    ///
    /// It differs from the requested one if the image was compressed, or lost its compressed variant, since the snapshot
    /// was taken. That keeps S6: a response with packets lists no entries. The ID must be the same.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoBody`] if no image of this ID is to be opened, [`Misuse::ExcessBody`] if `loaded` is over its length.
    pub fn body_opened(&mut self, image: Image, loaded: u32, now: Time) -> Result<(), Misuse> {
        match self.wants_body() {
            Some(BodyRequest::Open { image: listed }) if listed.id == image.id => {}
            _ => return Err(Misuse::NoBody),
        }
        if loaded > image.length {
            let missing = image.length;
            return Err(Misuse::ExcessBody { loaded, missing });
        }
        if let State::Responding(Responding {
            body: ResponseBody::Packets { next, .. },
            ..
        }) = &mut self.state
        {
            *next = Some(image);
        }
        self.body_loaded(loaded, now)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::catalog::CatalogWriter;
    use crate::image::{FileType, Flags, ImageId};
    use crate::server::ServerConfig;

    #[test]
    fn s6_a_packet_describes_the_variant_that_was_opened() {
        let id = ImageId(7);
        let listed = Image::new(id, Flags::new(FileType::Bmp, false), 100);
        let opened = Image::new(id, Flags::new(FileType::Bmp, true), 2);
        let mut writer = CatalogWriter::new();
        writer.insert("a.bmp", listed).unwrap();
        let now = Time::ZERO;
        let mut server = ServerConnection::new(ServerConfig::new(), now);
        let received = server.receive(&[5, 0], now); // LIST_AND_GET
        assert!(received.event.is_some());
        server.accept(&writer.publish(), now).unwrap();

        let other = Image::new(ImageId(8), opened.flags, 2);
        assert_eq!(server.body_opened(other, 2, now), Err(Misuse::NoBody));
        assert!(
            server.body_opened(opened, 3, now).is_err(),
            "beyond its end"
        );
        server.body_opened(opened, 2, now).unwrap();
        let shown = server.transmit();
        let mut expected: Vec<u8> = b"JTPG\x01".to_vec();
        expected.extend([3 | 8, 2, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(shown.bytes, expected);
        assert_eq!(shown.body.map(|span| span.length), Some(2));
        let all = shown.len();
        server.transmitted(all, now).unwrap();
        assert!(server.wants_finish(), "the response is complete");
        assert_eq!(server.body_opened(opened, 2, now), Err(Misuse::NoBody));
    }
}
