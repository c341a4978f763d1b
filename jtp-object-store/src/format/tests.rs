use jtp_core::FileType;
use proptest::prelude::*;

use super::*;

const STAMP: Stamp = Stamp { epoch: 7, seq: 9 };

fn object() -> impl Strategy<Value = Object> {
    let e_tag = prop_oneof![
        Just(None),
        "\"[0-9a-f]{32}\"".prop_map(Some),
        ".{0,20}".prop_map(Some),
    ];
    let contents = prop_oneof![
        Just(Contents::NotImage),
        (any::<u64>(), 0..8u8).prop_map(|(id, code)| Contents::Image {
            id: ImageId(id),
            file_type: FileType::from_code(code),
        }),
    ];
    let version = prop::option::of(".{1,9}");
    let variant = prop_oneof![
        (1..100u32, any::<u64>())
            .prop_map(|(length, checksum)| Variant::Encoded { length, checksum }),
        (0..=10_000u16).prop_map(|threshold| Variant::TooLong { threshold }),
    ];
    let size = 100..=u32::MAX;
    let fields = (e_tag, version, size, contents, prop::option::of(variant));
    fields.prop_map(|(e_tag, version, size, contents, variant)| {
        let identity = Identity::new(e_tag.as_deref(), version.as_deref(), size.into());
        let mut object = Object::new(identity, contents);
        object.variant = variant.filter(|_| contents != Contents::NotImage);
        object
    })
}

fn record() -> impl Strategy<Value = LogRecord> {
    let change = ("[^\0]{1,12}", prop::option::of(object()));
    let change = change.prop_map(|(key, object)| Change {
        key: key.into(),
        object,
    });
    let changes = prop::collection::vec(change, 0..6);
    (any::<u64>(), any::<bool>(), changes).prop_map(|(writer, complete, changes)| LogRecord {
        writer,
        complete,
        changes,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn log_objects_are_decoded_as_they_were_encoded(record in record()) {
        prop_assert_eq!(LogRecord::decode(&record.encode(STAMP)), Ok((STAMP, record)));
    }

    #[test]
    fn parts_are_decoded_as_they_were_encoded(
        objects in prop::collection::btree_map("[a-c/é]{1,6}", object(), 0..20),
    ) {
        let mut writer = PartWriter::new(STAMP);
        for (key, object) in &objects {
            writer.push(key, object);
        }
        let mut decoded = Vec::new();
        let take = |key: &str, object| decoded.push((key.to_owned(), object));
        prop_assert_eq!(decode_part(&writer.finish(), None, take), Ok(STAMP));
        prop_assert!(decoded.into_iter().eq(objects));
    }

    #[test]
    fn any_change_of_a_byte_and_any_truncation_is_detected(
        record in record(), at in any::<prop::sample::Index>(), bit in 0..8u8,
    ) {
        let mut bytes = record.encode(STAMP);
        let at = at.index(bytes.len());
        prop_assert!(LogRecord::decode(&bytes[..at]).is_err());
        bytes[at] ^= 1 << bit;
        prop_assert!(LogRecord::decode(&bytes).is_err());
    }

    #[test]
    fn hostile_bodies_do_not_panic(kind in 0..4u8, body in prop::collection::vec(any::<u8>(), 0..80)) {
        check_decoding(&framed(kind, &body));
        check_decoding(&body);
    }
}

#[test]
fn the_bytes_of_a_log_object_are_those_of_the_documentation() {
    let identity = Identity::new(Some("\"00112233445566778899aabbccddeeff\""), None, 300);
    let contents = Contents::Image {
        id: ImageId(0x0102_0304_0506_0708),
        file_type: FileType::Gif,
    };
    let record = LogRecord {
        writer: 5,
        complete: true,
        changes: vec![
            Change {
                key: "b/a.gif".into(),
                object: Some(Object::new(identity, contents)),
            },
            Change {
                key: "c".into(),
                object: None,
            },
        ],
    };
    let bytes = record.encode(Stamp { epoch: 1, seq: 2 });
    let expected = [
        &b"JTPO\x03\x01\0\0"[..],
        &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
        &[5, 0, 0, 0, 0, 0, 0, 0, 1, 2],
        b"\x01\x07b/a.gif\x04\xac\x02\x08\x07\x06\x05\x04\x03\x02\x01\x01",
        b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\0",
        b"\0\x01c",
    ]
    .concat();
    let (body, checksum) = bytes.split_at(bytes.len() - 8);
    assert_eq!(body, expected);
    assert_eq!(checksum, ImageId::of(&expected).0.to_le_bytes());
}

#[test]
fn a_record_with_a_variant_needs_version_2_and_others_keep_version_1() {
    let contents = Contents::Image {
        id: ImageId(1),
        file_type: FileType::Bmp,
    };
    let mut object = Object::new(Identity::new(None, None, 300), contents);
    let encoded = |object: &Object| {
        let mut writer = PartWriter::new(STAMP);
        writer.push("a", object);
        writer.finish()
    };
    assert_eq!(encoded(&object)[5], 1);
    let (length, checksum) = (200, 0x0807_0605_0403_0201);
    for (variant, fields) in [
        (
            Variant::Encoded { length, checksum },
            &b"\xc8\x01\x01\x02\x03\x04\x05\x06\x07\x08"[..],
        ),
        (Variant::TooLong { threshold: 9500 }, b"\0\x9c\x4a"),
    ] {
        object.variant = Some(variant);
        let mut bytes = encoded(&object);
        let expected = [b"\x0b\xac\x02\x01\0\0\0\0\0\0\0", fields, &[0, 0]].concat();
        bytes.truncate(bytes.len() - 8);
        assert_eq!((bytes[5], &bytes[HEADER_LEN + 4..]), (2, &*expected));
        bytes[5] = 1;
        let result = decode_part(&seal(bytes), None, |_, _| {});
        assert_eq!(result, Err(FormatError::Field("contents")));
    }
    let longer = [
        b"\x01\0\x01a\x0b\x05\x01\0\0\0\0\0\0\0\x05".as_slice(),
        &[0; 10],
    ]
    .concat();
    let result = decode_part(&framed(1, &longer), None, |_, _| {});
    assert_eq!(result, Err(FormatError::Field("variant")));
}

#[test]
fn counts_are_compared_with_the_bytes_that_follow() {
    let many = [&[0; 8][..], &[0], b"\x90\x4e"].concat(); // 10,000 changes in no bytes.
    assert_eq!(
        LogRecord::decode(&framed(2, &many)),
        Err(FormatError::Length)
    );
    let too_many = [&[0; 8][..], &[0], b"\x91\x4e"].concat();
    let error = FormatError::Field("number of changes");
    assert_eq!(LogRecord::decode(&framed(2, &too_many)), Err(error));
    let parts = [&[0, 0][..], b"\x80\x80\x04"].concat();
    assert_eq!(Head::decode(&framed(0, &parts)), Err(FormatError::Length));
}

#[test]
fn a_later_version_of_the_format_is_named() {
    let mut bytes = framed(3, &[0; 10]);
    bytes[5] = 2;
    assert_eq!(LeaseState::decode(&bytes), Err(FormatError::Version(2)));
}

#[test]
fn keys_ascend_from_part_to_part() {
    let object = Object::new(Identity::default(), Contents::NotImage);
    let mut writer = PartWriter::new(STAMP);
    writer.push("b", &object);
    let bytes = writer.finish();
    for (last, is_valid) in [("a", true), ("b", false), ("c", false)] {
        let mut last = Some(last.to_owned());
        let decoded = decode_part(&bytes, Some(&mut last), |_, _| {});
        assert_eq!(decoded.is_ok(), is_valid);
    }
}

#[test]
fn e_tags_of_listings_equal_those_of_other_responses() {
    let md5 = "00112233445566778899aabbccddeeff";
    for (listed, other) in [
        (md5, format!("\"{md5}\"")),
        ("0x8DA1", "\"0x8DA1\"".to_owned()),
    ] {
        let listed = Identity::new(Some(listed), None, 1);
        // S3 returns the version with an object, and not in a listing.
        let found = Identity::new(Some(&other), Some("v1"), 1);
        assert_eq!(listed, found);
        assert_eq!(listed.e_tag.to_text(), Some(other));
    }
    assert_ne!(
        Identity::new(None, Some("1"), 1),
        Identity::new(None, Some("2"), 1)
    );
    let local = ETag::new(Some("1f-2e-3d"));
    assert_eq!(local.to_text().as_deref(), Some("1f-2e-3d"));
}
