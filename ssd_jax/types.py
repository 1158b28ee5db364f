"""What modules pass to each other: examples, batches, targets and detections.

Axis letters: B images, A priors, M padded ground-truth boxes, K kept detections, C classes (0 is
the background), H and W height and width. Boxes are corners `[x_min, y_min, x_max, y_max]`,
normalized to the image.

    example     image uint8 [H, W, 3] RGB, boxes float32 [N, 4], labels int32 [N] (1 … C-1),
                flags int8 [N], image_id, size (H, W) of the original image
    batch       image uint8 [B, H, W, 3], boxes [B, M, 4], labels [B, M] (0 = padding),
                image_id [B]; for training also sample [B], the global sample number that keys
                every random choice; for evaluation also mask [B], 0 for rows that only fill up
"""

from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int

Example = dict[str, Any]
Batch = dict[str, Any]

# Flag of a ground-truth box, as the annotation has it. COCO calls its crowds `iscrowd`.
PLAIN, DIFFICULT, CROWD = 0, 1, 2

# Labels of a batch that are neither a class nor padding (0).
IGNORED_LABEL = -1  # a prior that matches it is neither positive nor negative
CROWD_LABEL = -2  # the same, by the share of the prior that lies inside the crowd


class Targets(NamedTuple):
    """What each prior should predict."""

    labels: Int[Array, "*B A"]  # class; 0 = background; -1 = neither positive nor negative
    offsets: Float[Array, "*B A 4"]  # encoded against the priors; 0 where not positive


class Detections(NamedTuple):
    """Detections of one image, best first, or [B, …] of a batch; label 0 is an empty slot."""

    boxes: Float[Array, "*B K 4"]
    scores: Float[Array, "*B K"]
    labels: Int[Array, "*B K"]
