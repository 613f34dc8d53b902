"""Masked pre-training: the task contract, masks as a function, figures by hand, weights there and back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from task_contract import TaskContract
from torch import Tensor, nn

from convnext.core.errors import UserError
from convnext.data.batch import Work
from convnext.data.classification.config import AugmentConfig
from convnext.data.config import InputConfig, LoaderConfig
from convnext.data.loader import BadImages
from convnext.data.mix import prepare
from convnext.data.pretraining.batch import Masking, load_masked_train_batch, mask_of
from convnext.data.pretraining.open import UnlabelledData, open_images, recognise
from convnext.data.recognise import Mine, NotMine
from convnext.models.config import FCMAEConfig, ModelConfig
from convnext.models.create import from_config
from convnext.models.detection.build import build_detector
from convnext.models.detection.config import mask_rcnn
from convnext.models.fcmae import FCMAE, Reconstruction, cells_of, normalised
from convnext.models.segmentation.build import build_segmenter
from convnext.models.segmentation.config import SegmenterConfig
from convnext.tasks.classification.weights import load_initial, load_model
from convnext.tasks.detection.weights import load_initial_detector
from convnext.tasks.pretraining.draw import masked, reconstruct
from convnext.tasks.pretraining.evaluate import evaluate
from convnext.tasks.pretraining.export import save_as
from convnext.tasks.pretraining.recipe import PretrainingMetadata
from convnext.tasks.pretraining.recipes import RECIPES
from convnext.tasks.pretraining.task import PretrainingTask
from convnext.tasks.pretraining.weights import load_autoencoder, load_initial_autoencoder
from convnext.tasks.segmentation.weights import load_initial_segmenter
from convnext.weights.locate import locate
from convnext.weights.writing import save_pickle
from shapes import draw

CPU = torch.device("cpu")
BACKBONE = ModelConfig(
    "convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 8, 12, 16), stem_stride=2, output_stride=8, kernel_size=3
)
CONFIG = FCMAEConfig(BACKBONE, decoder_dim=16)
INPUT = InputConfig(size=32)
MASKING = Masking(8, 0.6, seed=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images at two depths, without classes."""
    root = tmp_path_factory.mktemp("images")
    (root / "deep" / "er").mkdir(parents=True)
    for number in range(6):
        draw(root / f"{number}.png", "circle", number)
        draw(root / "deep" / "er" / f"{number}.jpg", "square", number)
    (root / "notes.txt").write_text("no image")
    return root


def autoencoder() -> FCMAE:
    torch.manual_seed(0)
    return FCMAE(CONFIG).eval()


class TestPretrainingTask(TaskContract):
    @pytest.fixture(autouse=True)
    def where(self, data: Path) -> None:
        self.data = data

    def task(self, seed: int = 0) -> PretrainingTask:
        splits = UnlabelledData(self.data).splits(LoaderConfig(val_fraction=0.25), seed=0)
        return PretrainingTask(
            train=splits.train,
            val=splits.val,
            input=INPUT,
            augment=AugmentConfig(scale=(0.4, 1.0), randaugment_ops=0),
            masking=Masking(8, 0.6, seed),
            eval_batch=4,
            loader=LoaderConfig(workers=0),
            device=CPU,
            seed=seed,
            bad=BadImages(12, max_bad=0.1),
        )

    def model(self) -> nn.Module:
        model = autoencoder()
        for name, parameter in model.named_parameters():
            if "grn" in name:
                nn.init.normal_(parameter, std=0.1)
        return model


# Masks


def test_a_mask_is_a_pure_function_of_seed_epoch_and_image():
    def mask(index: int = 3, epoch: int = 2, seed: int = 0, size: int = 64) -> Tensor:
        return mask_of(index, epoch=epoch, size=size, masking=Masking(8, 0.6, seed))

    torch.manual_seed(1)
    random.seed(1)
    first = mask()
    torch.rand(7)  # whatever else draws
    assert torch.equal(first, mask())
    assert first.shape == (8, 8)
    for other in (mask(index=4), mask(epoch=3), mask(seed=1)):
        assert not torch.equal(first, other)


def test_how_many_cells_are_masked():
    """49 cells at 0.6: 19 stay and 30 are masked (the official code's int(49 * 0.4)); never none, never all."""
    counts = {(224, 32, 0.6): 30, (64, 32, 0.99): 3, (64, 32, 0.01): 1, (32, 8, 0.6): 10}
    for (size, cell, ratio), hidden in counts.items():
        masks = [mask_of(i, epoch=0, size=size, masking=Masking(cell, ratio, 0)) for i in range(5)]
        assert {int(mask.sum()) for mask in masks} == {hidden}
    often = sum(mask_of(i, epoch=0, size=32, masking=Masking(8, 0.5, 0)).float() for i in range(2000)) / 2000
    assert (often - 0.5).abs().max() < 0.06  # every cell as often


def test_masks_in_batches_are_those_of_the_images(data):
    """In another epoch others; an image in another place of another batch the same."""
    dataset = UnlabelledData(data).for_evaluation(LoaderConfig())
    options = {"dataset": dataset, "augment": AugmentConfig(randaugment_ops=0), "input": INPUT, "masking": MASKING}
    one = load_masked_train_batch(Work(1, torch.tensor([5, 2])), **options).batch
    two = load_masked_train_batch(Work(1, torch.tensor([7, 5, 1])), **options).batch
    assert torch.equal(one.mask[0], two.mask[1])
    assert torch.equal(one.images[0], two.images[1])
    assert torch.equal(one.mask[0], mask_of(5, epoch=1, size=32, masking=MASKING))
    later = load_masked_train_batch(Work(2, torch.tensor([5])), **options).batch
    assert not torch.equal(one.mask[0], later.mask[0])


# Data


def test_any_folder_of_images(data):
    splits = UnlabelledData(data).splits(LoaderConfig(val_fraction=0.25), seed=1)
    assert (len(splits.train), len(splits.val)) == (9, 3)
    assert "12 images, whose labels are not asked for" in splits.note
    assert ".txt" in splits.note  # what was passed over is told
    names = [part.name(i) for part in (splits.train, splits.val) for i in range(len(part))]
    assert sorted(names) == sorted([*(f"{i}.png" for i in range(6)), *(f"deep/er/{i}.jpg" for i in range(6))])
    again = UnlabelledData(data).splits(LoaderConfig(), seed=9, saved=splits.record)
    assert [again.val.name(i) for i in range(3)] == [splits.val.name(i) for i in range(3)]


def test_a_classifiers_data_keeps_its_parts(tmp_path):
    for part, count in (("train", 4), ("val", 2)):
        for name in ("circle", "square"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                draw(tmp_path / part / name / f"{number}.png", name, number)
    splits = open_images(tmp_path).splits(LoaderConfig(), seed=0)
    assert (len(splits.train), len(splits.val)) == (8, 4)
    assert isinstance(recognise(str(tmp_path)), Mine)


def test_no_images(tmp_path):
    assert isinstance(recognise(str(tmp_path)), NotMine)
    with pytest.raises(UserError, match="holds no images"):
        open_images(tmp_path).splits(LoaderConfig(), seed=0)
    with pytest.raises(UserError, match="There is no"):
        open_images(tmp_path / "absent")
    (tmp_path / "one.png").touch()
    with pytest.raises(UserError, match="no folder of images"):
        open_images(tmp_path / "one.png")


# Figures


class Knowing(nn.Module):
    """Predicts the target times `share`, wherever it is."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, images: Tensor, mask: Tensor) -> Reconstruction:
        target = normalised(cells_of(images, 8))
        predicted = self.share * target
        errors = (predicted - target).square().mean(dim=-1) * mask.flatten(1)
        return Reconstruction(predicted, target, errors)


@pytest.mark.parametrize(("share", "explained"), [(1.0, 1.0), (0.0, 0.0), (0.5, 0.75), (2.0, 0.0), (3.0, -3.0)])
def test_explained_by_hand(data, share, explained):
    """All of it for the target, none for each cell's mean; half of every deviation leaves a quarter of the variance."""
    dataset = UnlabelledData(data).for_evaluation(LoaderConfig())
    result = evaluate(
        Knowing(share),
        dataset,
        input=INPUT,
        masking=MASKING,
        loader=LoaderConfig(workers=0),
        batch_size=5,
        device=CPU,
        bad=BadImages(12, max_bad=0.1),
    )
    assert result.explained == pytest.approx(explained, abs=1e-4)
    assert (result.loss, result.invalid) == (pytest.approx((1 - share) ** 2, rel=0.1), 0)


def test_outputs_that_are_no_numbers_are_counted(data):
    dataset = UnlabelledData(data).for_evaluation(LoaderConfig())
    options = {"input": INPUT, "masking": MASKING, "loader": LoaderConfig(workers=0), "batch_size": 5, "device": CPU}
    result = evaluate(Knowing(float("nan")), dataset, bad=BadImages(12, max_bad=0.1), **options)
    assert (result.invalid, result.loss, result.explained) == (12, None, None)


@torch.no_grad()
def test_a_reconstruction_keeps_what_is_visible():
    """Visible cells are the image's own; of the masked ones the model gives the look, and the image the brightness."""
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    mask = torch.stack([mask_of(i, epoch=0, size=32, masking=MASKING) for i in range(2)])
    hidden = mask.repeat_interleave(8, 1).repeat_interleave(8, 2).unsqueeze(1).expand(-1, 3, -1, -1)
    drawn, _ = reconstruct(autoencoder(), images, mask, INPUT)
    assert (drawn[~hidden].int() - images[~hidden].int()).abs().max() <= 1
    assert not torch.equal(drawn[hidden], images[hidden])

    class Perfect(FCMAE):
        def forward(self, images: Tensor, mask: Tensor) -> Reconstruction:
            target = normalised(cells_of(images, self.cell))
            return Reconstruction(target, target, torch.zeros(target.shape[:2]))

    drawn, _ = reconstruct(Perfect(CONFIG), images, mask, INPUT)
    assert (drawn.int() - images.int()).abs().max() <= 1
    shown = masked(images[0], mask[0])
    assert (shown[hidden[0]] == 128).all()
    assert torch.equal(shown[~hidden[0]], images[0][~hidden[0]])


# Weights


def saved(path: Path) -> tuple[FCMAE, Path]:
    model = autoencoder()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    file = path / "auto.safetensors"
    save_as(file, model.state_dict(), PretrainingMetadata(CONFIG, INPUT), "convnext")
    return model, file


@torch.no_grad()
def test_saved_and_loaded(tmp_path):
    model, file = saved(tmp_path)
    loaded, metadata = load_autoencoder(file)
    images = torch.randn(2, 3, 32, 32)
    mask = torch.stack([mask_of(i, epoch=0, size=32, masking=MASKING) for i in range(2)])
    assert torch.equal(loaded(images, mask).predicted, model(images, mask).predicted)
    assert (metadata.model, metadata.input) == (CONFIG, INPUT)


@torch.no_grad()
def test_a_classifier_starts_from_the_encoder(tmp_path):
    """Every layer of the encoder, to the bit; norm and classifier begin anew, and that is told."""
    model, file = saved(tmp_path)
    classifier = from_config(ModelConfig(**{**BACKBONE.__dict__, "num_classes": 3}))
    new = load_initial(classifier, file, classes=("a", "b", "c"))
    assert new == ["norm.weight", "norm.bias", "head.weight", "head.bias"]
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(classifier.state_dict()[name], value)


@torch.no_grad()
def test_going_on_with_a_whole_autoencoder_or_an_encoder(tmp_path):
    model, file = saved(tmp_path)
    other = autoencoder()
    assert load_initial_autoencoder(other, file) == []
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())
    wider = FCMAE(FCMAEConfig(BACKBONE, decoder_dim=24))
    assert load_initial_autoencoder(wider, file) == ["the decoder, which is another one there,"]
    assert torch.equal(wider.encoder.stages[0][0].pwconv1.weight, model.encoder.stages[0][0].pwconv1.weight)
    out = tmp_path / "encoder.pth"
    save_as(out, model.state_dict(), PretrainingMetadata(CONFIG, INPUT), "official")
    assert load_initial_autoencoder(other, out) == ["the decoder"]
    content = torch.load(out, weights_only=True)["model"]
    assert set(content) == set(model.encoder.state_dict())  # the names of the published files
    with pytest.raises(UserError, match="holds no decoder"):
        load_autoencoder(out)


@torch.no_grad()
def test_the_official_codes_own_checkpoints(tmp_path):
    """Sparse kernels, `ln` and `linear` in names, flat GRN: read back as the very model, decoder included."""
    backbone = ModelConfig("convnextv2_atto")
    torch.manual_seed(0)
    model = FCMAE(FCMAEConfig(backbone, decoder_dim=32)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    file = tmp_path / "checkpoint.pth"
    save_pickle(file, {"model": {n: v.clone() for n, v in _sparse(model.state_dict()).items()}})
    loaded, metadata = load_autoencoder(file)
    assert (metadata.model.backbone.name, metadata.model.decoder_dim) == ("convnextv2_atto", 32)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def _sparse(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state as MinkowskiEngine has it: the reverse of the official utils.remap_checkpoint_keys, for the encoder."""
    written = {}
    for name, value in state.items():
        parts = name.split(".")
        if not name.startswith("encoder.") or name.startswith("encoder.downsample_layers.0."):
            written[name] = value
        elif ".dwconv.weight" in name:
            written[name.replace("weight", "kernel")] = value[:, 0].transpose(1, 2).flatten(1).T  # to (k k, C)
        elif ".dwconv.bias" in name or (parts[1] == "downsample_layers" and parts[3] == "1" and parts[4] == "bias"):
            written[name] = value[None]
        elif parts[1] == "downsample_layers" and parts[3] == "1":
            written[name.replace("weight", "kernel")] = value.transpose(2, 3).flatten(2).permute(2, 1, 0)
        elif ".pwconv" in name:
            place = name.rindex(".")
            written[f"{name[:place]}.linear{name[place:]}"] = value
        elif ".grn." in name:
            written[name] = value.reshape(1, -1)
        else:  # norms
            place = name.rindex(".")
            written[f"{name[:place]}.ln{name[place:]}"] = value
    return written


def test_a_published_encoder_is_no_autoencoder_but_loads(tmp_path):
    """The published files hold dense encoders: `load_model` gives features, normalised by a norm of 1 and 0."""
    torch.manual_seed(0)
    encoder = FCMAE(FCMAEConfig(ModelConfig("convnextv2_atto"))).encoder
    file = tmp_path / "convnextv2_atto_1k_224_fcmae.pt"
    save_pickle(file, {"model": {name: value.clone() for name, value in encoder.state_dict().items()}})
    model, metadata = load_model(file)
    assert (metadata.model.name, model.num_classes) == ("convnextv2_atto", 0)
    assert locate(file).values is None


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds(name):
    recipe = RECIPES[name]()
    with torch.device("meta"):
        model = FCMAE(recipe.model)
    assert recipe.input.size % model.cell == 0
    if name != "pretrain/small":  # the facts' settings: 1.5e-4 * 4096 / 256, cells of 32 pixels
        assert (recipe.optim.lr, recipe.optim.betas, recipe.optim.weight_decay) == (2.4e-3, (0.9, 0.95), 0.05)
        assert (model.cell, recipe.model.mask_ratio, recipe.model.decoder_dim) == (32, 0.6, 512)
        assert (recipe.schedule.epochs, recipe.schedule.warmup_epochs, recipe.schedule.min_lr) == (800, 40, 0)


def test_prepared_images_are_what_the_model_takes(data):
    dataset = UnlabelledData(data).for_evaluation(LoaderConfig())
    batch = load_masked_train_batch(
        Work(0, torch.tensor([0, 1])), dataset=dataset, augment=AugmentConfig(), input=INPUT, masking=MASKING
    ).batch
    assert autoencoder()(prepare(batch.images, INPUT), batch.mask).losses.isfinite().all()


@torch.no_grad()
def test_detectors_and_segmenters_start_from_the_encoder(tmp_path):
    backbone = ModelConfig("convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8))
    model = FCMAE(FCMAEConfig(backbone, decoder_dim=16))
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    file, metadata = tmp_path / "auto.safetensors", PretrainingMetadata(FCMAEConfig(backbone, decoder_dim=16), INPUT)
    save_as(file, model.state_dict(), metadata, "convnext")
    segmenter = build_segmenter(SegmenterConfig(backbone, 3, head="mlp", width=8, auxiliary_width=0))
    detector = build_detector(mask_rcnn(backbone, num_classes=2))
    for network, load in ((segmenter, load_initial_segmenter), (detector, load_initial_detector)):
        assert load(network, file) == ["everything behind the backbone"]
        for name, value in model.encoder.state_dict().items():
            assert torch.equal(network.state_dict()[f"backbone.{name}"], value), name
