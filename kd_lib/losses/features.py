"""Losses on what student and teacher make of an image on the way to their answer."""

from keras import ops

from kd_lib.losses.numerics import check_batch, features_of, root


def attention_transfer(student_map, teacher_map):
    """Look where the teacher looks: the mean of (A_s - A_t)², where A is the map's energy at each place, of length 1.

    A = vec(mean over channels of F²) / ‖·‖. The numbers of channels need not be equal. The paper's weight is 1000.

    Args:
        student_map: float [batch, height, width, channels].
        teacher_map: float [batch, height, width, other channels].

    Returns:
        float32 [batch].

    Raises:
        ValueError: not maps, or maps of unequal height or width.

    Source: Zagoruyko and Komodakis 2017, arXiv 1612.03928, equation 2 with p = 2, means for sums.
    """
    student, teacher = features_of("student_map", student_map), features_of("teacher_map", teacher_map)
    if len(student.shape) != 4 or student.shape[:3][1:] != teacher.shape[:3][1:] or len(teacher.shape) != 4:
        raise ValueError(
            "attention_transfer compares maps [batch, height, width, channels] of the same height and width. Received: "
            f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}."
        )

    def attention(features):
        energy = ops.mean(ops.square(features), axis=-1)
        return _unit(ops.reshape(energy, (-1, features.shape[1] * features.shape[2])))

    return ops.mean(ops.square(attention(student) - attention(teacher)), axis=-1)


def hint(student_map, teacher_map):
    """The mean squared difference of two feature maps, over all but the batch. The paper's weight is 100.

    Args:
        student_map: float [batch, ...]; `Distiller` first projects it to the teacher's width where they differ.
        teacher_map: float of the same shape.

    Returns:
        float32 [batch].

    Raises:
        ValueError: unequal shapes.

    Source: Romero et al. 2015, arXiv 1412.6550, equation 3.
    """
    student, teacher = features_of("student_map", student_map), features_of("teacher_map", teacher_map)
    if student.shape[1:] != teacher.shape[1:]:
        raise ValueError(
            f"hint compares features of the same shape. Received: student {tuple(student.shape)}, teacher "
            f"{tuple(teacher.shape)}. Distiller(features=...) joins unequal widths by a trainable projector."
        )
    return ops.mean(ops.square(student - teacher), axis=tuple(range(1, len(student.shape))))


def rkd(student_embedding, teacher_embedding, distance_weight=25.0, angle_weight=50.0):
    """Keep the shape of the cloud: Huber losses on the distances of all pairs and on the angles of all triplets.

    Distances are divided by their mean over pairs of two different images; the angle at image i between j and k enters
    by its cosine. The widths of the embeddings need not be equal. Differences of less than a thousandth of the mean
    distance are taken for 0. It is computed per replica under `tf.distribute`, and sample weights do not apply. The
    angles of a batch take batch³ numbers of memory, several times: 0.5 GB each for 512 images. A single image left over
    at the end of an epoch adds nothing where the graph was traced for any batch (TensorFlow); elsewhere it is refused
    as a batch of 1: choose a batch size that leaves none.

    Args:
        student_embedding: float [batch, ...], batch at least 2; maps are flattened.
        teacher_embedding: float [batch, ...].
        distance_weight, angle_weight: weights of the two parts, means over all batch² pairs and batch³ triplets (an
            image with itself counts, and differs by 0).

    Returns:
        float32 scalar.

    Raises:
        ValueError: a batch of 1, or embeddings without a feature axis.

    Source: Park et al. 2019, arXiv 1904.05068, equations 6 to 9 and 12.
    """
    student = features_of("student_embedding", student_embedding)
    teacher = features_of("teacher_embedding", teacher_embedding)
    check_batch("rkd", student)
    (distances, angles), (wanted_distances, wanted_angles) = _relations(student), _relations(teacher)
    loss = distance_weight * ops.mean(_huber(distances - wanted_distances))
    return loss + angle_weight * ops.mean(_huber(angles - wanted_angles))


def _unit(vectors):
    """Divide each row by its length; a row of zeros stays one."""
    length = root(ops.sum(ops.square(vectors), axis=-1, keepdims=True))
    return vectors / ops.where(length > 0, length, 1.0)


def _relations(embedding):
    """Return distances divided by their mean, [batch, batch], and cosines of angles, [batch, batch, batch]."""
    count = ops.shape(embedding)[0]
    points = ops.reshape(embedding, (count, -1))
    points = points - ops.mean(points, axis=0)  # what is subtracted below is then small
    products = ops.matmul(points, ops.transpose(points))
    squares = ops.sum(ops.square(points), axis=1)
    squared = ops.maximum(squares[:, None] + squares[None, :] - 2.0 * products, 0.0)
    pairs = ops.cast(count * (count - 1), "float32")
    apart = squared > 1e-6 * ops.sum(squared) / pairs
    distances = ops.where(apart, ops.sqrt(ops.where(apart, squared, 1.0)), 0.0)
    mean = ops.sum(distances) / pairs
    inverse = ops.where(apart, 1.0 / ops.where(apart, distances, 1.0), 0.0)
    # (x_j - x_i)·(x_k - x_i), for every i, j, k
    dots = products[None, :, :] - products[:, :, None] - products[:, None, :] + squares[:, None, None]
    return distances / ops.where(mean > 0, mean, 1.0), dots * inverse[:, :, None] * inverse[:, None, :]


def _huber(difference):
    size = ops.abs(difference)
    return ops.where(size < 1.0, 0.5 * ops.square(difference), size - 0.5)
