/// A step in time of all alignments of one sequence of labels with blanks between. Forwards it is
/// the probability of each state with all that comes before, backwards with all that comes after:
/// Graves and others (2006), "Connectionist Temporal Classification", section 4.1. In float64
/// alone.
///
/// Probabilities are scaled, as by Rabiner (1989), "A tutorial on hidden Markov models", section
/// V.A: a step takes an exponential a label and no logarithm. Each state has a scale of its own, a
/// power of two: a state that is nothing beside the others of its step may yet be the only one that
/// reaches the end.
public struct AlignmentStep {
  /// Numbers (mantissa + rest) 2^exponent: those of the labels + 1 blanks and, `room` behind the
  /// first of them, those of the labels. Impossible states fill both up to `room`. A rest is what
  /// the sums have rounded away: without it the loss of a sequence that is all but certain, -log of
  /// a number next to 1, would have no digits. An exponent is a whole number, -infinity for 0.
  public struct States {
    public var mantissas: UnsafeMutablePointer<Double>
    public var rests: UnsafeMutablePointer<Double>
    public var exponents: UnsafeMutablePointer<Double>

    public init(_ memory: UnsafeMutablePointer<Double>, room: Int) {
      mantissas = memory
      rests = memory + 2 * room
      exponents = memory + 4 * room
    }
  }

  /// How far each state of a step is occupied: what leads to it times what follows it, divided by
  /// the probability of all alignments.
  public struct Occupation {
    /// What leads to the states of this step, as `States` has it.
    public var mantissas: UnsafePointer<Double>
    public var exponents: UnsafePointer<Double>
    /// 1 / mantissa, and the exponent, of all alignments.
    public var inverse: Double
    public var exponent: Double
    /// The results, blanks and labels like the states.
    public var results: UnsafeMutablePointer<Double>

    public init(
      mantissas: UnsafePointer<Double>, exponents: UnsafePointer<Double>, inverse: Double,
      exponent: Double, results: UnsafeMutablePointer<Double>
    ) {
      self.mantissas = mantissas
      self.exponents = exponents
      self.inverse = inverse
      self.exponent = exponent
      self.results = results
    }
  }

  public var labels: Int
  public var isBackward: Bool
  /// Whether mantissas are brought near 1 afterwards; to be done every 16 steps at least. A step
  /// multiplies a mantissa by sqrt(1/2) to 3 sqrt(2), a sum of up to three times a power's own: 16
  /// keep it within 2^-8 and 2^34, and what is 2^-1022 times another has no digit in common with
  /// it.
  public var isNormalized: Bool
  public var before: States
  public var after: States
  /// 0 where a label may follow the one before it without a blank between, else -infinity.
  public var skips: UnsafePointer<Double>
  /// Log-probabilities of the blank and of each label, -infinity behind them.
  public var logs: UnsafePointer<Double>
  /// Room for their exponentials.
  public var mantissas: UnsafeMutablePointer<Double>
  public var exponents: UnsafeMutablePointer<Double>
  /// Backwards, where it is wanted.
  public var occupation: Occupation?

  /// Elements of each array for so many labels: whole vectors, and one behind them.
  public static func room(_ labels: Int) -> Int { (labels + 1 + 15) / 8 * 8 }
  public var room: Int { AlignmentStep.room(labels) }

  public init(
    labels: Int, before: States, after: States, skips: UnsafePointer<Double>,
    logs: UnsafePointer<Double>, mantissas: UnsafeMutablePointer<Double>,
    exponents: UnsafeMutablePointer<Double>
  ) {
    self.labels = labels
    isBackward = false
    self.before = before
    self.after = after
    self.skips = skips
    self.logs = logs
    self.mantissas = mantissas
    self.exponents = exponents
    isNormalized = false
  }
}
