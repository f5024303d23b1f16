"""Losses on the answers of student and teacher."""

from keras import ops

from kd_lib.losses.numerics import check_batch, check_temperature, pair_of, root

_NEVER = -1e30  # a logit whose probability is 0, and that stays finite


def kd(student_logits, teacher_logits, temperature=4.0):
    """Soft-target loss: T² · KL(teacher ‖ student), both softened by the temperature T.

    The factor T² keeps the gradient's size: with respect to the student's logits it is T·(q − p), where p and q are the
    softened probabilities of teacher and student, and tends to a constant as T grows.

    Args:
        student_logits: float [batch, classes].
        teacher_logits: float [batch, classes]. No gradient is stopped here; `Distiller` does that.
        temperature: positive number or scalar tensor.

    Returns:
        float32 [batch], in nats times T².

    Raises:
        ValueError: unequal class counts, wrong rank, or a temperature that is not positive.

    Source: Hinton, Vinyals and Dean 2015, arXiv 1503.02531, section 2.
    """
    check_temperature(temperature)
    student, teacher = pair_of(student_logits, teacher_logits)
    temperature = ops.cast(temperature, "float32")
    # log_softmax, never log(softmax): finite for any finite logits.
    student_log = ops.log_softmax(student / temperature, axis=-1)
    teacher_log = ops.log_softmax(teacher / temperature, axis=-1)
    divergence = ops.sum(ops.exp(teacher_log) * (teacher_log - student_log), axis=-1)
    return temperature**2 * divergence


def dkd(student_logits, teacher_logits, labels, temperature=4.0, alpha=1.0, beta=8.0):
    """Decoupled distillation: T² · [alpha · KL(b_t ‖ b_s) + beta · KL(p̂_t ‖ p̂_s)].

    b = (p_y, 1 - p_y) is how much the true class gets, p̂ how the other classes share among themselves. In `kd` the
    second term is multiplied by the teacher's 1 - p_y, so a sure teacher's view of the other classes hardly counts;
    here it counts beta. With two classes there is nothing to share: the first term alone. The paper raises the loss's
    weight from 0 over its first 20 epochs; with `Distiller`, let `alpha` fall from 1 in a callback.

    Args:
        student_logits: float [batch, classes].
        teacher_logits: float [batch, classes].
        labels: int [batch], the true classes y, 0 to classes - 1.
        temperature: positive number or scalar tensor.
        alpha: weight of the first term.
        beta: weight of the second, 2 to 8 in the paper: more for a surer teacher.

    Returns:
        float32 [batch], in nats times T².

    Raises:
        ValueError: unequal class counts, wrong rank, a temperature that is not positive, no labels.

    Source: Zhao et al. 2022, arXiv 2203.08679, equation 7.
    """
    check_temperature(temperature)
    student, teacher = pair_of(student_logits, teacher_logits)
    if labels is None:
        raise ValueError("dkd splits the answer at the true class: it needs labels. Take kd where there are none.")
    temperature = ops.cast(temperature, "float32")
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == 2 and labels.shape[1] != 1:
        raise ValueError(f"dkd takes the true classes as whole numbers [batch]. Received: shape={tuple(labels.shape)}")
    labels = ops.reshape(ops.cast(labels, "int32"), (-1,))
    truth = ops.one_hot(labels, student.shape[1], dtype="float32")

    def split(logits):
        """Return the margin of the true class, whose sigmoid is p_y, and log p̂ (0 at the true class)."""
        # Less the largest of the others, so that they keep their digits where the true class is far above them.
        top = ops.stop_gradient(ops.max(ops.where(truth > 0, _NEVER, logits), axis=-1, keepdims=True))
        logits = (logits - top) / temperature
        others = ops.where(truth > 0, _NEVER, logits)
        mass = ops.logsumexp(others, axis=-1, keepdims=True)
        margin = ops.sum(truth * logits, axis=-1) - mass[:, 0]
        return margin, ops.where(truth > 0, 0.0, logits - mass)

    (teacher_margin, teacher_log), (student_margin, student_log) = split(teacher), split(student)
    # log p_y = -softplus(-margin) keeps its digits where p_y is almost 0 or 1.
    target = ops.sigmoid(teacher_margin) * (ops.softplus(-student_margin) - ops.softplus(-teacher_margin))
    target += ops.sigmoid(-teacher_margin) * (ops.softplus(student_margin) - ops.softplus(teacher_margin))
    shares = ops.where(truth > 0, 0.0, ops.exp(teacher_log))
    others = ops.sum(shares * (teacher_log - student_log), axis=-1)
    return temperature**2 * (alpha * target + beta * others)


def standardized_kd(student_logits, teacher_logits, temperature=2.0):
    """`kd` of standardised logits: z becomes (z - mean) / (sd + 1e-7), over the classes of each image.

    The student is asked for the teacher's order and proportions, not for logits of the same size. Unchanged when either
    network's logits are multiplied by a positive number or shifted. The paper weighs it 9 to 0.1 of the label loss.

    Args:
        student_logits: float [batch, classes].
        teacher_logits: float [batch, classes].
        temperature: positive number or scalar tensor.

    Returns:
        float32 [batch], in nats times T².

    Raises:
        ValueError: unequal class counts, wrong rank, or a temperature that is not positive.

    Source: Sun et al. 2024, arXiv 2403.01427, equations 9 and 10 (sd over all classes, without Bessel's correction).
    """
    student, teacher = pair_of(student_logits, teacher_logits)
    return kd(_standardized(student), _standardized(teacher), temperature)


def dist(student_logits, teacher_logits, temperature=4.0, beta=2.0, gamma=2.0):
    """Correlation instead of equality: T²·beta·(1 - mean_i ρ(p_i, q_i)) + T²·gamma·(1 - mean_k ρ(p_k, q_k)).

    ρ is Pearson's correlation of softened probabilities: over the classes of each image i, and over the images of the
    batch for each class k. A correlation that does not exist, because one side is constant, counts as 0. The batch
    should hold 128 images or more. It is computed per replica under `tf.distribute`, and sample weights do not apply.
    A single image left over at the end of an epoch adds its first term alone where the graph was traced for any batch
    (TensorFlow); elsewhere it is refused as a batch of 1: choose a batch size that leaves none.

    Args:
        student_logits: float [batch, classes], batch at least 2.
        teacher_logits: float [batch, classes].
        temperature: positive number or scalar tensor.
        beta, gamma: weights of the two terms.

    Returns:
        float32 scalar.

    Raises:
        ValueError: a batch of 1, unequal class counts, wrong rank, or a temperature that is not positive.

    Source: Huang et al. 2022, arXiv 2205.10536, equations 9 to 11.
    """
    check_temperature(temperature)
    student, teacher = pair_of(student_logits, teacher_logits)
    check_batch("dist", student)
    temperature = ops.cast(temperature, "float32")
    student_log = ops.log_softmax(student / temperature, axis=-1)
    teacher_log = ops.log_softmax(teacher / temperature, axis=-1)
    rows = 1.0 - ops.mean(_correlation(student_log, teacher_log, axis=1))
    columns = 1.0 - ops.mean(_correlation(student_log, teacher_log, axis=0))
    return temperature**2 * (beta * rows + gamma * columns)


def average(logits, temperature, weights):
    """Return the logits whose softened probabilities are the weighted mean of those of several teachers.

    Args:
        logits: float [batch, teachers, classes].
        temperature: positive number or scalar tensor.
        weights: a number per teacher; they add up to 1.

    Returns:
        float32 [batch, classes].
    """
    temperature = ops.cast(check_temperature(temperature), "float32")
    logs = ops.log_softmax(ops.cast(logits, "float32") / temperature, axis=-1)
    logs = logs + ops.log(ops.convert_to_tensor(weights, dtype="float32"))[None, :, None]
    return temperature * ops.logsumexp(logs, axis=1)


def _standardized(logits):
    centred = logits - ops.mean(logits, axis=-1, keepdims=True)
    return centred / (root(ops.mean(ops.square(centred), axis=-1, keepdims=True)) + 1e-7)


def _correlation(student_log, teacher_log, axis):
    """Pearson's correlation of probabilities along `axis`, from their logarithms."""

    def standard(log_probabilities):
        # A correlation does not change with scale: brought to a largest value of 1, the smallest classes count too.
        values = ops.exp(log_probabilities - ops.stop_gradient(ops.max(log_probabilities, axis=axis, keepdims=True)))
        centred = values - ops.mean(values, axis=axis, keepdims=True)
        # Below this, all values are equal up to float32's rounding.
        return centred * ops.rsqrt(ops.maximum(ops.sum(ops.square(centred), axis=axis, keepdims=True), 1e-12))

    return ops.sum(standard(student_log) * standard(teacher_log), axis=axis)
