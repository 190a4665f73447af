/// max(0, shift + x)^p of a block, p 1 or 2, four elements at a time; there is room for all of the last four. A NaN
/// counts as 0, as in torch's margin losses.
struct HingeBlock {
  let x: UnsafeRawPointer
  let count: Int
  let shift: Double
  let isSquared: Bool
  /// The number of an element that does not count; -1: all do.
  let omitted: Double

  init(
    _ x: UnsafePointer<Double>, _ count: Int, shift: Double, isSquared: Bool = false,
    omitted: Int = -1
  ) {
    self.omitted = Double(omitted)
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
    var numbers = SIMD4<Double>(0, 1, 2, 3)
    let (end, omitted) = (SIMD4(repeating: Double(count)), SIMD4(repeating: omitted))
    for offset in stride(from: 0, to: count * 8, by: 32) {
      let z = shifts + x.loadUnaligned(fromByteOffset: offset, as: SIMD4<Double>.self)
      let isOn = (z .> .zero) .& (numbers .< end) .& (numbers .!= omitted)
      numbers += SIMD4(repeating: 4)
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
      let old = isAdding ? y.loadUnaligned(fromByteOffset: offset, as: SIMD4<Double>.self) : .zero
      y.storeBytes(of: old + slope * factors, toByteOffset: offset, as: SIMD4<Double>.self)
    }
    return (losses.sum(), slopes.sum())
  }
}
