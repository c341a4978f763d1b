//! Names with folders in them. // W9

use crate::script::{play, scripts};

scripts! {
    fn w9_a_folder_in_place_of_a_file_stays_and_a_number_is_not_that_of_a_folder() {
        "folder case-sensitive a.png=folder a-0000000000000001.png=folder
         list a.png=1 a-0000000000000001-1.png⧸x.png=2
         > fetch 1, place 1 a-0000000000000001-2.png, refuse 1 NameTaken, fetch 2
         > place 2 a-0000000000000001-1.png/x.png"
    }

    fn r3_folders_of_a_catalog_are_counted() {
        "list a⧸b⧸1.png=1 a⧸c⧸2.png=2
         folders 3
         list a⧸c⧸2.png=2
         folders 2"
    }

    fn w9_images_are_placed_in_their_folders_and_renamed_into_them() {
        "folder a.png=1
         list 2024⧸a.png=1 2024⧸Rome⧸b.png=2
         > rename 1 a.png 2024/a.png, fetch 2, place 2 2024/Rome/b.png
         new flat
         folder a.png=1
         list 2024⧸a.png=1 2024⧸Rome⧸b.png=2
         folders 0
         > rename 1 a.png 2024⧸a.png, fetch 2, place 2 2024⧸Rome⧸b.png
         # Under whatever name, in whatever folder.
         new any-names
         folder best/x.png=1 2024⧸Rome⧸b.png=2
         list 2024⧸a.png=1 2024⧸Rome⧸b.png=2
         > nothing"
    }

    fn w9_two_names_share_a_folder_where_case_is_ignored() {
        "folder case-insensitive A=folder A/x.png=1 A/y.png=2
         list A⧸x.png=1 a⧸y.png=2
         > nothing
         new
         folder case-sensitive A=folder A/x.png=1 A/y.png=2
         list A⧸x.png=1 a⧸y.png=2
         > rename 2 A/y.png a/y.png
         # Files in another case are renamed as ever.
         new
         folder case-insensitive A/X.png=1 A/y.png=2
         list A⧸x.png=1 a⧸y.png=2
         > rename 1 A/X.png A/x.png"
    }

    fn w9_a_file_gives_its_name_to_a_folder_that_a_list_or_an_event_names() {
        "folder a.png=1
         list a.png=1
         > nothing
         list a.png=1 A.png⧸b⧸c.png=2
         > rename 1 a.png a-0000000000000001.png, fetch 2, place 2 A.png/b/c.png
         new
         folder a.png=1
         list a.png=1
         > nothing
         event A.png⧸b⧸c.png=2
         > rename 1 a.png a-0000000000000001.png, fetch 2, place 2 A.png/b/c.png"
    }
}

#[test]
fn w9_where_a_folder_cannot_be_the_image_has_its_id_in_the_folder_itself() {
    let listed = "list d⧸e⧸a.png=1 b.png=2";
    let flat = "d⧸e⧸a-0000000000000001.png";
    for kind in ["other", "reserved", "unread"] {
        play(&format!(
            "folder case-sensitive d={kind} e={kind}
             {listed}
             > fetch 1, place 1 {flat}, refuse 1 NameTaken, fetch 2, place 2 b.png"
        ));
        // The second run does nothing. R8 (b) Once the folder can be there, the image moves into it.
        for names in ["", "any-names"] {
            play(&format!(
                "new {names}
                 folder case-sensitive d={kind} {flat}=1 b.png=2
                 {listed}
                 > refuse 1 NameTaken
                 new {names}
                 folder case-sensitive d=folder {flat}=1 b.png=2
                 {listed}
                 > rename 1 {flat} d/e/a.png"
            ));
        }
    }
}
