import Glibc
import LossdKernelTable

/// A probability (mantissa + rest) 2^exponent, as `AlignmentStep.States` has it.
struct CTCProbability {
  var mantissa: Double
  var rest: Double
  var exponent: Double

  init(_ states: AlignmentStep.States, _ index: Int) {
    mantissa = states.mantissas[index]
    rest = states.rests[index]
    exponent = states.exponents[index]
  }

  /// Knuth's TwoSum, of numbers of the larger exponent.
  mutating func add(_ other: CTCProbability) {
    let larger = max(exponent, other.exponent)
    let (mine, its) = (
      CTCProbability.power(exponent - larger), CTCProbability.power(other.exponent - larger)
    )
    let (a, b) = (mantissa * mine, other.mantissa * its)
    let sum = a + b
    let part = sum - a
    rest = rest * mine + (other.rest * its + ((a - (sum - part)) + (b - part)))
    mantissa = sum
    exponent = larger
  }

  /// 2^n for whole n: 0 below -1022, and for the NaN of -infinity less -infinity.
  static func power(_ n: Double) -> Double { n >= -1022 ? exp2(n) : 0 }

  /// log of it times exp(factor). Near 1 it is the mantissa's and the rest's alone, so that no
  /// digit is lost.
  func logarithm(factor: Double) -> Double {
    if exponent == -.infinity { return exponent }
    let isUpper = mantissa.significand > 2.squareRoot()
    let whole = Double(mantissa.exponent) + (isUpper ? 1 : 0)
    let unit = CTCProbability.power(-whole)
    let near = log(mantissa * unit) + rest / mantissa
    // ln 2 in two parts, as fdlibm's e_log.c has it: the product with the first is exact up to
    // 2^20.
    let n = exponent + whole
    return (factor + n * 6.931_471_803_691_238_164_9e-01)
      + (n * 1.908_214_929_270_587_700_02e-10 + near)
  }
}

extension AlignmentStep {
  /// What the kernels compute, a state at a time.
  func compute() -> Double {
    var shift = -Double.infinity
    var isBelowInfinity = true
    for place in 0...labels {
      shift = max(shift, logs[place])
      isBelowInfinity = isBelowInfinity && logs[place] < .infinity
    }
    if shift == -.infinity { shift = 0 }
    for place in 0..<room {
      let x = logs[place] - shift
      let n = (x * 1.442_695_040_888_963_4).rounded()
      // From there on x has hardly a digit behind the point.
      let isNear = n.magnitude < 0x1p49
      mantissas[place] =
        isNear
        ? exp((x - n * 6.931_471_803_691_238_164_9e-01) - n * 1.908_214_929_270_587_700_02e-10) : 1
      exponents[place] = n
    }
    let ahead = isBackward ? 1 : 0
    for place in 0...labels {
      var blank = CTCProbability(before, place)
      var label = CTCProbability(before, room + place)
      blank.add(CTCProbability(before, room + place + ahead - 1))
      label.add(CTCProbability(before, place + ahead))
      var skipped = CTCProbability(before, room + place + 2 * ahead - 1)
      skipped.exponent += skips[place + ahead]
      label.add(skipped)
      write(blank, place, 0)
      write(label, room + place, place + 1)
    }
    return isBelowInfinity ? shift : .nan
  }

  private func write(_ state: CTCProbability, _ index: Int, _ factor: Int) {
    if let occupation {
      let exponent = occupation.exponents[index] - occupation.exponent + state.exponent
      occupation.results[index] =
        occupation.mantissas[index] * state.mantissa * occupation.inverse
        * CTCProbability.power(exponent)
    }
    let mantissa = state.mantissa * mantissas[factor]
    let power = isNormalized && mantissa > 0 ? -mantissa.exponent : 0
    let unit = Double(sign: .plus, exponent: power, significand: 1)
    after.mantissas[index] = mantissa * unit
    after.rests[index] = state.rest * mantissas[factor] * unit
    after.exponents[index] = state.exponent + exponents[factor] - Double(power)
  }
}
