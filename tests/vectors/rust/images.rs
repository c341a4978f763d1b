//! Image IDs, packet data, file types, and file names.

use jtp_core::{
    BodyReceiver, DEFAULT_MAX_IMAGE_SIZE, DEFAULT_MAX_WINDOW, FileType, Flags, Image, ImageFault,
    ImageHasher, ImageId,
};
use jtp_store::{FileName, NamePlan};
use serde_json::Value;

use crate::read::{Vector, vectors};

#[test]
fn w3_image_ids() {
    for vector in vectors("image_id") {
        let (data, id) = (vector.bytes("data"), vector.str("id"));
        assert_eq!(ImageId::of(&data).to_string(), id, "{}", vector.label);
        let mut hasher = ImageHasher::new();
        data.chunks(7).for_each(|piece| hasher.update(piece));
        assert_eq!(hasher.id().to_string(), id, "{}", vector.label);
    }
}

/// The decoded bytes and the verdict of an image received in pieces.
fn receive(vector: &Vector, data: &[u8], piece: usize) -> (Vec<u8>, &'static str) {
    let limit = |name: &str| vector.get("limits")?.get(name)?.as_u64();
    let max_window = limit("max_window").map(|window| u32::try_from(window).unwrap());
    let mut receiver = BodyReceiver::new(
        limit("max_size").unwrap_or(DEFAULT_MAX_IMAGE_SIZE),
        max_window.unwrap_or(DEFAULT_MAX_WINDOW),
    );
    receiver.begin(Image::new(
        vector.str("id").parse().unwrap(),
        Flags::from_bits(u8::try_from(vector.number("flags")).unwrap()),
        u32::try_from(data.len()).unwrap(),
    ));
    let mut decoded = Vec::new();
    for mut piece in data.chunks(piece) {
        while !piece.is_empty() {
            let received = receiver.receive(piece);
            decoded.extend_from_slice(received.data);
            piece = &piece[received.used..];
        }
    }
    let verdict = match receiver.verdict().expect("the image is complete") {
        Ok(_) => "good",
        Err(ImageFault::WrongId { .. }) => "wrong_id",
        Err(ImageFault::Broken(_)) => "broken",
        Err(ImageFault::TooLarge { .. }) => "too_large",
        Err(ImageFault::Encrypted) => "encrypted",
        Err(other) => panic!("{}: {other}", vector.label),
    };
    (decoded, verdict)
}

#[test]
fn w8_r2_r4_packet_data() {
    for vector in vectors("body") {
        let (label, data) = (&vector.label, vector.bytes("data"));
        assert_eq!(vector.number("length"), data.len() as u64, "{label}");
        for piece in [1, 2, 3, 7, 100, usize::MAX] {
            let (decoded, verdict) = receive(&vector, &data, piece);
            assert_eq!(verdict, vector.str("verdict"), "{label}, pieces of {piece}");
            if verdict == "good" {
                assert!(decoded == vector.bytes("image"), "{label}");
            }
        }
    }
}

fn file_type(value: &Value) -> FileType {
    FileType::from_code(u8::try_from(value.as_u64().unwrap()).unwrap())
}

#[test]
fn w5_file_types() {
    for vector in vectors("file_type") {
        let extension = vector.get("extension").and_then(Value::as_str);
        let found = FileType::sniff(&vector.bytes("start"))
            .unwrap_or_else(|| FileType::from_extension(extension.unwrap_or_default()));
        assert_eq!(
            found,
            file_type(vector.get("type").unwrap()),
            "{}",
            vector.label
        );
    }
}

#[test]
fn r5_file_names() {
    for vector in vectors("file_name") {
        let id = vector.str("id").parse().unwrap();
        let file_type = file_type(vector.get("type").unwrap());
        let name = FileName::new(vector.str("catalog_name"), id, file_type);
        assert_eq!(name.as_str(), vector.str("file_name"), "{}", vector.label);
    }
}

#[test]
fn r5_file_names_of_a_catalog() {
    for vector in vectors("name_plan") {
        let mut files = vector.list("files").to_vec();
        for _ in 0..files.len() {
            files.rotate_left(1);
            let mut plan = NamePlan::new();
            let id = |file: &Value| file["id"].as_str().unwrap().parse::<ImageId>().unwrap();
            for file in files.iter().filter(|file| file["catalog_name"].is_string()) {
                let name = file["catalog_name"].as_str().unwrap();
                plan.add(id(file), name, file_type(&file["type"]));
            }
            for file in &files {
                let name = plan.name(id(file), file_type(&file["type"]));
                assert_eq!(name.as_str(), file["file_name"], "{}", vector.label);
            }
        }
    }
}
