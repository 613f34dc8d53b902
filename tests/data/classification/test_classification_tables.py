"""Tables of images and labels: what their columns mean, which files are meant, what is said, refused and asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tabled import Made, labels, note

from convnext.core.errors import UserError
from convnext.data.classification.config import TableConfig
from convnext.data.classification.dataset import class_dirs, labels_of, several_labels
from convnext.data.classification.open import ClassificationData, recognise
from convnext.data.config import LoaderConfig
from convnext.data.recognise import Mine, Nearly

CATS = {"images/0.png": "dog", "images/1.png": "cat", "images/2.png": "dog"}
THREE = ("images/0.png", "images/1.png", "images/2.png")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", "file,label\n0.png,dog\n1.png,cat\n2.png,dog\n"),
        ("labels.csv", b"\xef\xbb\xbffile,label\r\n0.png,dog\r\n1.png,cat\r\n2.png,dog\r\n"),
        ("labels.csv", "image_id;class\n0;dog\n1;cat\n2;dog\n"),
        ("any.csv", '"Image Name","width","Class Name"\n"0.png","8","dog"\n"1.png",8,"cat"\n2.png,9,dog\n'),
        ("labels.tsv", "path\tcategory\nimages/0.png\tdog\nimages/1.png\tcat\nimages/2.png\tdog\n"),
        ("labels.csv", "images/0.png,dog\nimages/1.png,cat\nimages/2.png,dog\n"),
        ("labels.csv", ",filename,tags\n0,0.png,dog\n1,1.png,cat\n2,2.png,dog\n"),
        ("metadata.csv", "file_name,animal\nimages/0.png,dog\nimages/1.png,cat\nimages/2.png,dog\n"),
        ("metadata.jsonl", '{"file_name": "0.png", "label": "dog"}\n{"file_name": "1.png", "label": "cat"}\n\n'
         '{"file_name": "2.png", "label": "dog", "more": null}\n'),
        ("labels.csv", "file,label,label_name\n0.png,1,dog\n1.png,0,cat\n2.png,1,dog\n"),
        ("labels.csv", "file,cat,dog\n0.png,0,1\n1.png,1,0\n2.png,0.0,1.0\n"),
        ("annotations/labels.csv", "file,label\n0.png,dog\n1.png,cat\n2.png,dog\n"),
    ],
)  # fmt: skip
def test_tables_as_programs_write_them(made: Made, name: str, content: str | bytes) -> None:
    path = made(name, content, *THREE)
    assert isinstance(recognise(str(path)), Mine)
    assert labels(path) == CATS
    assert isinstance(recognise(str(path / name)), Mine)
    assert labels(path / name) == CATS


def test_a_list_of_text_with_spaces(made: Made) -> None:
    path = made("list.txt", "images/0.png dog\nimages/1.png cat\nimages/2.png dog\n", *THREE)
    assert labels(path / "list.txt") == CATS


def test_numbers_keep_their_order_and_get_names(made: Made) -> None:
    text = "file,label\n" + "".join(f"{i}.png,{number}\n" for i, number in enumerate((10.0, 2.0, "", 10.0)))
    path = made("labels.csv", text)
    data = ClassificationData(path).splits(LoaderConfig(), seed=0)
    assert class_dirs(data.train) == ("2", "10")
    assert "1 rows of labels.csv without a class" in data.note
    assert "Left out: 3 images below" in data.note


@pytest.mark.parametrize(
    ("cell", "how"),
    [
        ("images\\1.png", "slashes"),
        ("images/with%20space.png", "percent"),
        ("IMAGES/1.PNG", "letter case"),
        ("C:\\somebody\\images\\1.png", "another folder"),
        ("/home/somebody/data/images/1.png", "another folder"),
        ("./images/1.png", ""),
        ("1", "without its ending"),
    ],
)
def test_names_are_normalised_where_one_file_fits(made: Made, cell: str, how: str) -> None:
    images = (*THREE, "images/with space.png")
    path = made("labels.csv", f"file,label\n0.png,dog\n{cell},cat\n2.png,dog\n", *images)
    found = labels(path)
    assert sorted(found.values()) == ["cat", "dog", "dog"]
    assert how in note(path)
    assert ("Images found" in note(path)) == bool(how)


def test_a_name_that_fits_two_files_is_refused(made: Made) -> None:
    path = made("labels.csv", "file,label\n0.png,dog\n1.png,cat\n", "a/0.png", "b/0.png", "a/1.png")
    with pytest.raises(UserError, match=r"'0.png'. It can mean a/0.png or b/0.png"):
        labels(path / "labels.csv")


def test_missing_files_are_refused_or_left_out(made: Made) -> None:
    path = made("labels.csv", "file,label\n0.png,dog\n1.png,cat\n2.png,dog\nimages/5x.png,cat\n")
    with pytest.raises(UserError, match=r"1 of 4 images that are not below .*'images/5x.png'.*--loader.skip-bad"):
        labels(path)
    said = note(path, LoaderConfig(skip_bad=True))
    assert "Left out: 1 rows of labels.csv whose image is not there." in said


@pytest.mark.parametrize("outside", ["../secret.png", "/etc/secret.png", "images/../../secret.png"])
def test_nothing_outside_of_the_folder_is_read(made: Made, tiny: list[bytes], outside: str) -> None:
    path = made("labels.csv", f"file,label\n0.png,dog\n1.png,cat\n{outside},cat\n")
    (path.parent / "secret.png").write_bytes(tiny[0])
    with pytest.raises(UserError, match="1 of 3 images that are not below"):
        labels(path)


def test_a_file_listed_twice(made: Made) -> None:
    same = made("labels.csv", "file,label\n0.png,dog\n1.png,cat\n0.png,dog\n")
    assert "1 rows of labels.csv list an image again" in note(same)
    text = "file,label\n0.png,dog\n1.png,cat\nimages/0.png,cat\n"
    (same / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=r"lists images/0.png with different labels: 'dog' and 'cat'.*several"):
        labels(same)
    assert labels(same, per_image="several") == {"images/0.png": "cat, dog", "images/1.png": "cat"}


@pytest.mark.parametrize(
    "cells",
    [
        ["red|blue", "red", "", "blue|green", "green|red", "blue"],
        ["red; blue", "red", "", "blue; green", "green; red", "blue"],
        ['"red,blue"', "red", "", '"blue, green"', '"green,red"', "blue"],
        ["red blue", "red", "", "blue green", "green red", "blue"],
        ["\"['red', 'blue']\"", "['red']", "[]", "\"['blue', 'green']\"", "\"['green', 'red']\"", "['blue']"],
        ["['red' 'blue']", "['red']", "[]", "['blue' 'green']", "['green' 'red']", "['blue']"],
    ],
)
def test_several_labels_in_a_cell(made: Made, cells: list[str]) -> None:
    path = made("labels.csv", "image,labels\n" + "".join(f"{i}.png,{cell}\n" for i, cell in enumerate(cells)))
    found = labels(path)
    assert list(found.values()) == ["blue, red", "red", "no label", "blue, green", "green, red", "blue"]
    assert "1 of the images in labels.csv have no label" in note(path)
    assert "an image can have several labels, or none" in note(path)


def test_several_labels_as_lists_and_as_columns(made: Made) -> None:
    rows = [{"file_name": f"{i}.png", "tags": ["a", "b"][: i % 3]} for i in range(6)]
    path = made("metadata.jsonl", "\n".join(map(json.dumps, rows)))
    assert list(labels(path).values()) == ["no label", "a", "a, b"] * 2
    (path / "metadata.jsonl").unlink()
    lines = "".join(f"{i},{int(i % 3 > 0)},{'1' if i % 3 > 1 else ''}\n" for i in range(6))
    (path / "labels.csv").write_text(f"id,a,b\n{lines}")
    assert list(labels(path).values()) == ["no label", "a", "a, b"] * 2
    assert "4 empty cells count as 0" in note(path)


def test_columns_of_classes_that_exclude_each_other_are_classes(made: Made) -> None:
    path = made("labels.csv", "file,a,b\n0.png,1,0\n1.png,0,1\n2.png,0,1\n")
    assert "the columns are classes that exclude each other" in note(path)
    assert several_labels(
        ClassificationData(path, table=TableConfig(per_image="several")).for_evaluation(LoaderConfig())
    )


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("label", ["golden retriever", "tabby cat", "golden retriever", "tabby cat"]),
        ("label", ["tench, Tinca tinca", "great white shark, white shark", "tench, Tinca tinca", "hen"]),
        ("labels", ["golden retriever", "tabby cat", "golden retriever", "tabby cat"]),
    ],
)
def test_class_names_with_separators_stay_whole(made: Made, header: str, cells: list[str]) -> None:
    path = made("labels.tsv", f"file\t{header}\n" + "".join(f"{i}.png\t{cell}\n" for i, cell in enumerate(cells)))
    assert list(labels(path).values()) == cells


def test_what_can_be_one_class_or_several_labels_is_asked_for(made: Made) -> None:
    cells = ["black cat", "white cat", "black dog", "white dog"]
    path = made("labels.csv", "file,label\n" + "".join(f"{i}.png,{cell}\n" for i, cell in enumerate(cells)))
    with pytest.raises(UserError, match=r"'black cat'.*one class or several labels\? --table.per-image one"):
        labels(path)
    assert list(labels(path, per_image="one").values()) == cells
    assert labels(path, per_image="several")["images/0.png"] == "black, cat"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,breed,colour\n0.png,a,red\n1.png,b,red\n2.png,a,blue\n3.png,b,blue\n", None),
        ("file,sex,age\n0.png,m,1\n1.png,f,2\n2.png,m,3\n", r"which of 'sex', 'age' holds the classes\? --table.label"),
        ("file,label,category\n0.png,a,x\n1.png,b,x\n2.png,a,y\n", r"which of 'label', 'category' holds the classes"),
        ("file,age,a,b\n0.png,7,1,0\n1.png,8,1,1\n", r"columns of 0 and 1, one for each label: a,b"),
        ("file,thumb,label\n0.png,1.png,a\n1.png,2.png,b\n", None),
        ("one,two,label\nimages/0.png,images/1.png,a\nimages/1.png,images/2.png,b\n", r"--table.image COLUMN"),
        ("file,label,label\n0.png,a,b\n", r"two columns 'label'"),
        ("file,label\n0.png,a,b\n1.png,b\n", r"row 2 has 3 cells, and the first 2"),
        ('file,label\n"0.png,a\n1.png,b\n', r"no table of text with separators"),
        ("file,label\n", r"no lines below its first"),
        ("filename,xmin,ymin,class\n0.png,1,2,a\n1.png,3,4,b\n", r"'xmin', as tables of boxes or masks do"),
        ("file,caption\n0.png,a dog\n1.png,a cat\n2.png,one more\n", r"which of 'caption' holds the classes"),
    ],
)
def test_columns_are_known_or_asked_for(made: Made, text: str, said: str | None) -> None:
    path = made("labels.csv", text)
    if said is None:
        assert set(labels(path).values()) <= {"a", "b"}
    else:
        with pytest.raises(UserError, match=said):
            labels(path / "labels.csv")


def test_columns_that_are_named(made: Made) -> None:
    path = made("labels.csv", "left,right,sex,age\n0.png,1.png,m,1\n1.png,2.png,f,2\n2.png,3.png,m,3\n")
    found = labels(path, image="right", label="sex")
    assert found == {"images/1.png": "m", "images/2.png": "f", "images/3.png": "m"}
    assert "columns not used: left, age" in note(path, image="right", label="sex")
    with pytest.raises(UserError, match=r"--table.label: .* has no column 'sax'. Did you mean 'sex'"):
        labels(path, image="right", label="sax")


def test_utf_16_is_named(made: Made) -> None:
    path = made("labels.csv", "file,label\n0.png,dog\n1.png,cat\n".encode("utf-16"))
    with pytest.raises(UserError, match="UTF-16"):
        labels(path)


def parts(path: Path) -> tuple[dict[str, str], dict[str, str], str]:
    splits = ClassificationData(path).splits(LoaderConfig(), seed=0)
    train, val = ({part.name(i): labels_of(part, i) for i in range(len(part))} for part in (splits.train, splits.val))
    return train, val, splits.note


def test_parts_are_files(made: Made, tiny: list[bytes]) -> None:
    path = made("train.csv", "id,label\n0,dog\n1,cat\n", "train/0.png", "train/1.png", "validation/0.png")
    (path / "val.csv").write_text("id,label\n0,cat\n")
    (path / "sample_submission.csv").write_text("id,label\n7,cat\n8,dog\n")
    train, val, said = parts(path)
    assert (train, val) == ({"train/0.png": "dog", "train/1.png": "cat"}, {"validation/0.png": "cat"})
    assert "1 images in 'val.csv' to validate on" in said
    assert "Not used: sample_submission.csv" in said


def test_parts_are_folders_of_hugging_face(made: Made) -> None:
    path = made(
        "train/metadata.csv", "file_name,label\n0.png,dog\n1.png,cat\n", "train/0.png", "train/1.png", "test/0.png"
    )
    (path / "test" / "metadata.jsonl").write_text('{"file_name": "0.png", "label": "cat"}\n')
    train, val, said = parts(path)
    assert (train, val) == ({"train/0.png": "dog", "train/1.png": "cat"}, {"test/0.png": "cat"})
    assert "no 'val', so the test images choose" in said


@pytest.mark.parametrize(("column", "words"), [("split", ("train", "valid")), ("is_valid", ("False", "True"))])
def test_parts_are_a_column(made: Made, column: str, words: tuple[str, str]) -> None:
    rows = [f"{i}.png,{'ab'[i % 2]},{words[i > 3]}" for i in range(6)]
    path = made("labels.csv", "\n".join([f"file,label,{column}", *rows]))
    train, val, said = parts(path)
    assert (len(train), len(val)) == (4, 2)
    assert f"parts in '{column}'" in said
    again = ClassificationData(path).splits(LoaderConfig(), seed=1).record
    assert sorted(again["val"]) == ["images/4.png", "images/5.png"]


def test_rows_of_unknown_parts_are_counted_and_folds_are_no_parts(made: Made) -> None:
    rows = [
        f"{i}.png,{'ab'[i % 2]},{part}" for i, part in enumerate(("train", "train", "val", "extra", "extra", "val"))
    ]
    path = made("labels.csv", "\n".join(["file,label,split", *rows]))
    assert "rows that are of no part known here: 2 of 'extra'" in note(path)
    (path / "labels.csv").write_text("file,label,fold\n0.png,a,0\n1.png,b,1\n2.png,a,2\n")
    assert "columns not used: fold" in note(path)


def test_a_class_that_training_does_not_have(made: Made) -> None:
    path = made("labels.csv", "file,label,split\n0.png,a,train\n1.png,b,train\n2.png,c,val\n")
    with pytest.raises(UserError, match="part 'val' has a class 'c' that the training images do not have"):
        parts(path)


def test_class_folders_and_a_table(made: Made, tmp_path: Path) -> None:
    images = ("cat/0.png", "cat/1.png", "dog/2.png", "dog/3.png")
    path = made("labels.csv", "file,label\n0.png,cat\n1.png,cat\n2.png,dog\n3.png,dog\n", *images)
    assert "class folders: 4 images" in note(path)
    (path / "labels.csv").write_text("file,label\n0.png,x\n1.png,y\n2.png,x\n3.png,y\n")
    with pytest.raises(UserError, match=r"say different things.*--data .*labels.csv.*--folders classes"):
        note(path)
    assert isinstance(recognise(str(path)), Nearly)
    assert set(labels(path / "labels.csv").values()) == {"x", "y"}
    (path / "labels.csv").rename(path / "predictions.csv")
    assert "class folders: 4 images" in note(path)


def test_several_tables_are_asked_about(made: Made) -> None:
    path = made("one.csv", "file,label\n0.png,x\n1.png,y\n")
    (path / "two.csv").write_text("file,label\n0.png,y\n1.png,x\n")
    with pytest.raises(UserError, match=r"several tables of images: one.csv, two.csv.*--data"):
        note(path)


@pytest.mark.parametrize("text", ["file,width\n9.png,3\n", "epoch,loss\n1,2\n2,1\n", "x"])
def test_tables_of_other_things_change_nothing(made: Made, text: str) -> None:
    path = made("results.csv", text, "cat/0.png", "dog/1.png", "cat/2.png", "dog/3.png")
    assert "class folders: 4 images" in note(path)


def test_boxes_are_not_classes(made: Made) -> None:
    path = made(
        "_annotations.csv", "filename,class,xmin,ymin,xmax,ymax\n0.png,a,1,2,3,4\n1.png,b,1,2,3,4\n", "0.png", "1.png"
    )
    verdict = recognise(str(path))
    assert isinstance(verdict, Nearly)
    assert "'xmin', as tables of boxes" in verdict.missing


def test_a_random_split_of_labels_has_each_in_both_parts(made: Made) -> None:
    cells = ["a|b", "a", "b", "rare|a", "rare", "b|a", *["a|b", "b"] * 12]
    images = [f"images/{i}.png" for i in range(len(cells))]
    path = made("labels.csv", "file,labels\n" + "".join(f"{i}.png,{c}\n" for i, c in enumerate(cells)), *images)
    for seed in range(6):
        splits = ClassificationData(path).splits(LoaderConfig(), seed=seed)
        assert all(part.targets.sum(dim=0).gt(0).all() for part in (splits.train, splits.val))


def test_a_label_of_one_image_stays_in_training_and_that_is_said(made: Made) -> None:
    cells = ["a|b", "a", "b", "single|a", "b", "b|a"]
    path = made("labels.csv", "file,labels\n" + "".join(f"{i}.png,{c}\n" for i, c in enumerate(cells)))
    for seed in range(6):
        splits = ClassificationData(path).splits(LoaderConfig(), seed=seed)
        assert int(splits.train.targets[:, splits.train.classes.index("single")].sum()) == 1
        assert "no held-out image has: single" in splits.note


def test_parquet_needs_a_library_and_says_which(made: Made) -> None:
    path = made("labels.parquet", b"PAR1 no parquet at all")
    with pytest.raises(UserError, match=r"pip install pyarrow|cannot be read as parquet"):
        labels(path / "labels.parquet")


def test_parquet_is_read(made: Made) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    arrow = pytest.importorskip("pyarrow")
    path = made("other.txt", "")
    columns = {"file_name": ["0.png", "1.png", "2.png"], "labels": [["a"], ["a", "b"], []]}
    parquet.write_table(arrow.table(columns), path / "metadata.parquet")
    assert list(labels(path).values()) == ["a", "a, b", "no label"]
