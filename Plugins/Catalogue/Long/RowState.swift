import Glibc

/// A row's exponentials, or those of a part of it: their sum is exp(max) (1 + rest).
struct RowState: BitwiseCopyable {
  var max = -Double.infinity
  /// NaN where an infinity or NaN spoils the row.
  var rest = 0.0
  /// What the function sums beside: of upstream gradients or of shares.
  var share = 0.0
  /// A part of the loss.
  var loss = 0.0

  var logSum: Double { log1p(rest) }

  init(max: Double, rest: Double, share: Double = 0) {
    self.max = max
    self.rest = rest
    self.share = share
  }

  /// Of `count` parts, `step` apart, in order. `sharesAreScaled`: a share counts as much as its part of
  /// the row's sum, rather than by itself.
  init(merging parts: UnsafePointer<RowState>, count: Int, step: Int, sharesAreScaled: Bool) {
    var top = 0
    for index in 0..<count {
      let part = parts[index * step]
      if part.max > max || part.max.isNaN || part.rest.isNaN { (max, top) = (part.max, index) }
      if part.max.isNaN || part.rest.isNaN { break }
    }
    // As torch: one infinity or NaN spoils the row, and so does having nothing but -inf.
    let isSpoilt = !max.isFinite || parts[top * step].rest.isNaN
    var others = CompensatedSum()
    others.add(isSpoilt ? .nan : parts[top * step].rest)
    for index in 0..<count where index != top {
      let part = parts[index * step]
      if part.max > -.infinity { others.add((1 + part.rest) * exp(part.max - max)) }
    }
    rest = others.value
    var shares = CompensatedSum()
    for index in 0..<count {
      let part = parts[index * step]
      let isScaled = sharesAreScaled && (part.max > -.infinity || isSpoilt)
      shares.add(
        isScaled ? part.share * ((1 + part.rest) * exp(part.max - max) / (1 + rest)) : part.share)
    }
    share = shares.value
  }

  @inline(__always) func logProbability(_ x: Double) -> Double { x - max - logSum }
}
