internal import CLossdLanes

/// With d = x - y and beta the constant, d^2 / (2 beta) for |d| < beta, else |d| - beta / 2: the Huber loss divided by
/// beta. beta is 0, or its inverse is normal. Types: all. Within 3 ulp of what d, rounded, gives. Girshick (2015).
enum SmoothL1: ElementFormula {
  static var operandCount: Int { 2 }

  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let (d, beta) = (o.x - o.y, o.constant)
    let size = magnitude(d)
    let ratio = d * (all(1) / beta)
    let isNear = lanes_less(size, beta)
    let value = lanes_pick(isNear, d * ratio * 0.5, size - beta * 0.5)
    // Neither is true of 0 and of NaN, which stay what they are.
    let sign = lanes_pick(
      lanes_less(all(0), d), all(1), lanes_pick(lanes_less(d, all(0)), all(-1), d))
    let slope = lanes_pick(isNear, ratio, sign)
    return ElementResults(value, slope: slope, slopeOfY: 0 - slope)
  }
}
