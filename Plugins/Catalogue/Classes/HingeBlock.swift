/// max(0, shift + x)^p of a block, p 1 or 2, four elements at a time. What fills the last four is -infinity. A NaN
/// counts as 0, as in torch's margin losses.
struct HingeBlock {
  let x: UnsafeRawPointer
  let count: Int
  let shift: Double
  let isSquared: Bool

  /// Fills up the last four.
  init(_ x: UnsafeMutablePointer<Double>, _ count: Int, shift: Double, isSquared: Bool = false) {
    for index in count..<(count + 3) / 4 * 4 { x[index] = -.infinity }
    self.x = UnsafeRawPointer(x)
    self.count = count
    self.shift = shift
    self.isSquared = isSquared
  }

  /// The sums of the terms and of their slopes; adds `factor` times the slopes to `y`, or writes them there.
  @inline(__always)
  func sums(
    factor: Double, to y: UnsafeMutablePointer<Double>?, isAdding: Bool
  ) -> (loss: Double, slope: Double) {
    var (losses, slopes) = (SIMD4<Double>.zero, SIMD4<Double>.zero)
    let (shifts, factors) = (SIMD4(repeating: shift), SIMD4(repeating: factor))
    let y = UnsafeMutableRawPointer(y)
    for offset in stride(from: 0, to: count * 8, by: 32) {
      let z = shifts + x.load(fromByteOffset: offset, as: SIMD4<Double>.self)
      let isOn = z .> .zero
      let hinge = SIMD4<Double>.zero.replacing(with: z, where: isOn)
      var slope = SIMD4<Double>.zero.replacing(with: SIMD4(repeating: 1), where: isOn)
      if isSquared {
        slope = hinge + hinge
        losses += hinge * hinge
      } else {
        losses += hinge
      }
      slopes += slope
      guard let y else { continue }
      let old = isAdding ? y.load(fromByteOffset: offset, as: SIMD4<Double>.self) : .zero
      y.storeBytes(of: old + slope * factors, toByteOffset: offset, as: SIMD4<Double>.self)
    }
    return (losses.sum(), slopes.sum())
  }
}
