"""What the sweeps start from: `shapes`, `vgg`, or the path of a folder in PASCAL VOC layout."""

from ml_collections import ConfigDict

from configs import quickstart, ssd300_vgg16_voc, voc_folder

MAPS = 6  # 38, 19, 10, 5, 3, 1 cells a side of VGG at 300 pixels; 20, 10, 5, 3, 2, 1 at 160


def get_config(base: str) -> ConfigDict:
    """The small network on drawn shapes or own photographs, minutes a run on a CPU; or the paper's.

    Both have the fields that any sweep turns, and the paper's aspect ratios on six maps, of which
    `model.backbone.levels` is the number. Sizes of priors come from the formula and centers from
    even grids, so that another number of maps needs no other tables.
    """
    paper = ssd300_vgg16_voc.get_config()
    if base == "vgg":
        config = paper.copy_and_resolve_references()
        with config.unlocked():
            config.model.backbone.update({"levels": MAPS, "atrous": True})
        config.priors.update({"sizes": (), "strides": ()})
        return config
    config = quickstart.get_config()
    if base != "shapes":
        photographs = voc_folder.get_config(base)
        config.data = photographs.data
        config.augment = photographs.augment
    config.model.backbone.levels = MAPS
    config.priors.aspect_ratios = paper.priors.aspect_ratios
    return config
