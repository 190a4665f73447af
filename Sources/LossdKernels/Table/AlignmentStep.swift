/// A step in time of all alignments of one sequence of labels, blanks between them: how probable it is that each state is
/// reached, forwards, or that what follows it comes out, backwards. Graves and others (2006), "Connectionist Temporal
/// Classification", section 4.1, equations 6 and 7. A kernel of float64 alone.
///
/// Scaled, as Rabiner (1989), "A tutorial on hidden Markov models", section V.A, has it, so that a step takes an exponential
/// a label and no logarithm; but each state has a scale of its own, a power of two, since a state that is nothing beside
/// the others may be the only one that reaches the end. No sum underflows.
public struct AlignmentStep {
  /// Numbers (mantissa + rest) 2^exponent: of the labels + 1 blanks and, `room` behind them, of the labels; after each, up to
  /// `room`, impossible ones. A rest is what the mantissa's sums have rounded away, without which the loss of a sequence that is
  /// all but certain, -log of a number next to 1, would have no digits. An exponent is a whole number, -infinity for 0.
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

  /// How far each state of a step is occupied: the product of the two directions, divided by the probability of all
  /// alignments, (mantissa) 2^exponent.
  public struct Occupation {
    /// Those of the same step, forwards, as `States` has them.
    public var mantissas: UnsafePointer<Double>
    public var exponents: UnsafePointer<Double>
    /// 1 / mantissa and the exponent of all alignments.
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
  /// Whether mantissas are brought near 1 afterwards: to be done every 16 steps at least, since a step multiplies the largest
  /// of each state's by 0.7 to 4.3, and what is 2^1022 times smaller is left out.
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
