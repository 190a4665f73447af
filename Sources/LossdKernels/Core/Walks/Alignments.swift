// A step of ctc_loss's recursions, in float64 alone.
internal import CLossdLanes
import LossdKernelTable

#if LOSSD_DOUBLE
  /// Computes a step. Returns the logarithm that all its probabilities are divided by: the largest
  /// log-probability of its classes, 0 where all are -infinity; NaN where one is NaN or infinity.
  /// Types: float64. Range: every number below infinity. Error: a state's grows by at most 1.6 ulp
  /// a step, 1.1 of the exponential and half of the product, and by none where the class is the
  /// step's most probable, whose exponential is 1; measured by AlignmentTests. Source:
  /// `AlignmentStep`.
  func alignmentStep(_ pointer: UnsafePointer<AlignmentStep>) -> Double {
    let step = pointer.pointee
    let shift = largestLog(step)
    writePowers(step, shift)
    // What a step backwards reads lies one element further than what a step forwards reads.
    let ahead = step.isBackward ? 1 : 0
    let ofBlank = Power(all(step.mantissas[0]), all(step.exponents[0]))
    let labels = step.room
    var i = 0
    while i <= step.labels {
      var blank = Scaled(step.before, i)
      var label = Scaled(step.before, labels &+ i)
      let left = Scaled(step.before, labels &+ i &+ ahead &- 1)
      blank.add(left)
      label.add(Scaled(step.before, i &+ ahead))
      var skipped = ahead == 0 ? left : Scaled(step.before, labels &+ i &+ 1)
      skipped.exponent = skipped.exponent + fetch(step.skips, i &+ ahead)
      label.add(skipped)
      if let occupation = step.occupation {
        occupation.write(blank, i)
        occupation.write(label, labels &+ i)
      }
      blank.write(times: ofBlank, step.after, i)
      let ofLabel = Power(fetch(step.mantissas, i &+ 1), fetch(step.exponents, i &+ 1))
      label.write(times: ofLabel, step.after, labels &+ i)
      i &+= width
    }
    if step.isNormalized { normalize(step.after, 2 &* step.room) }
    return shift
  }

  @inline(__always)
  private func largestLog(_ step: AlignmentStep) -> Double {
    var largest = all(-.infinity)
    var isBelowInfinity = Bits(repeating: -1)
    var i = 0
    while i <= step.labels {
      let x = fetch(step.logs, i)
      largest = lanes_larger(largest, x)
      isBelowInfinity = isBelowInfinity & lanes_less(x, all(.infinity))
      i &+= width
    }
    if anyLane(~isBelowInfinity) { return .nan }
    let shift = lanes_largest(largest)
    return shift == -.infinity ? 0 : shift
  }

  /// exp(x - shift) of all classes and of what is behind them: the mantissas within 1.1 ulp, as
  /// exp's. From 2^49 on, where x has hardly a digit behind the point, they are 1 and the exponents
  /// need not be whole.
  @inline(__always)
  private func writePowers(_ step: AlignmentStep, _ shift: Double) {
    var i = 0
    while i < step.room {
      let x = fetch(step.logs, i) - shift
      let isNear = lanes_less(magnitude(x), all(0x1p49))
      let near = lanes_pick(isNear, x, all(0))
      let n = fma(near, Format.log2e, all(Format.magic)) - Format.magic
      put(expReduced(near, n) + 1, step.mantissas, i)
      put(lanes_pick(isNear, n, x * Format.log2e), step.exponents, i)
      i &+= width
    }
  }

  /// Brings mantissas to [sqrt(1/2), sqrt(2)); those of impossible states may be 0.
  @inline(__always)
  private func normalize(_ states: AlignmentStep.States, _ count: Int) {
    var i = 0
    while i < count {
      let (mantissa, exponent) = split(fetch(states.mantissas, i))
      let power = lanes((Format.bias &- exponent) &<< Format.mantissaBits)
      put(mantissa, states.mantissas, i)
      put(fetch(states.rests, i) * power, states.rests, i)
      put(fetch(states.exponents, i) + converted(exponent), states.exponents, i)
      i &+= width
    }
  }

  /// Probabilities, as `AlignmentStep` has them.
  private struct Power {
    let mantissa: Lanes
    let exponent: Lanes

    @inline(__always)
    init(_ mantissa: Lanes, _ exponent: Lanes) {
      self.mantissa = mantissa
      self.exponent = exponent
    }
  }

  /// States, as `AlignmentStep.States` has them.
  private struct Scaled {
    var mantissa: Lanes
    var rest: Lanes
    var exponent: Lanes

    @inline(__always)
    init(_ states: AlignmentStep.States, _ index: Int) {
      mantissa = fetch(states.mantissas, index)
      rest = fetch(states.rests, index)
      exponent = fetch(states.exponents, index)
    }

    /// Knuth's TwoSum, of numbers of the larger exponent.
    @inline(__always)
    mutating func add(_ other: Scaled) {
      let larger = lanes_larger(exponent, other.exponent)
      let (mine, its) = (power(exponent - larger), power(other.exponent - larger))
      let (a, b) = (mantissa * mine, other.mantissa * its)
      let sum = a + b
      let part = sum - a
      rest = fma(rest, mine, fma(other.rest, its, (a - (sum - part)) + (b - part)))
      mantissa = sum
      exponent = larger
    }

    @inline(__always)
    func write(times factor: Power, _ states: AlignmentStep.States, _ index: Int) {
      put(mantissa * factor.mantissa, states.mantissas, index)
      put(rest * factor.mantissa, states.rests, index)
      put(exponent + factor.exponent, states.exponents, index)
    }
  }

  extension AlignmentStep.Occupation {
    @inline(__always)
    fileprivate func write(_ states: Scaled, _ index: Int) {
      let product = fetch(mantissas, index) * states.mantissa * inverse
      let scale = power((fetch(exponents, index) - exponent) + states.exponent)
      put(product * scale, results, index)
    }
  }

  /// 2^n for whole n up to 1023: 0 below -1022, and for the NaN of -infinity less -infinity.
  @inline(__always)
  private func power(_ n: Lanes) -> Lanes {
    // The low bits of the sum are the exponent of the power, and its shift drops all others.
    let biased = lanes_larger(all(-1023), n) + (Format.magic + 1023)
    return lanes(bits(biased) &<< Format.mantissaBits)
  }
#endif
