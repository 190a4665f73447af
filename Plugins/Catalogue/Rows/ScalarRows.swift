import LossdKernelTable

/// What the kernels do to one contiguous row, in float64 arithmetic on tiles, and the norms that they do not have.
struct ScalarRows {
  let norm: Norm
  /// Whether differences are rounded to float32, as torch's are.
  let isSingle: Bool

  init(_ state: borrowing RowPlan, _ isSingle: Bool) {
    norm = state.norm
    self.isSingle = isSingle
  }

  @inline(__always)
  private func difference(
    _ x: UnsafePointer<Double>, _ y: UnsafePointer<Double>?, _ index: Int, _ shift: Double
  ) -> Double {
    guard let y else { return x[index] }
    if isSingle { return Double(Float(x[index]) - Float(y[index]) + Float(shift)) }
    return x[index] - y[index] + shift
  }

  func add(_ rows: SummedRows) {
    let x = rows.x.assumingMemoryBound(to: Double.self)
    let y = rows.y?.assumingMemoryBound(to: Double.self)
    var sum = CompensatedSum()
    if rows.sum == .products {
      var (cross, second) = (CompensatedSum(), CompensatedSum())
      for index in 0..<rows.size {
        sum.add(x[index] * x[index])
        guard let y else { continue }
        cross.add(x[index] * y[index])
        second.add(y[index] * y[index])
      }
      rows.sums[rows.room] = cross.value
      rows.sums[2 * rows.room] = second.value
    } else if rows.sum == .ties {
      let limit = rows.limits?[0] ?? 0
      for index in 0..<rows.size {
        let size = difference(x, y, index, rows.shift).magnitude
        sum.add(size == limit || size.isNaN ? 1 : 0)
      }
    } else if norm.hasTies {
      var most = norm.kind == .largest ? 0 : Double.infinity
      for index in 0..<rows.size {
        let size = difference(x, y, index, rows.shift).magnitude
        let isBeyond = norm.kind == .largest ? size > most : size < most
        if isBeyond || size.isNaN { most = size }
        if size.isNaN { break }
      }
      sum.add(most)
    } else {
      for index in 0..<rows.size {
        sum.add(norm.term(difference(x, y, index, rows.shift).magnitude))
      }
    }
    rows.sums.pointee = sum.value
  }

  /// `isSlope`: whether the terms are the norm's slopes, rather than the elements.
  func mix(_ rows: MixedRows, isSlope: (Bool, Bool)) {
    let output = rows.output.assumingMemoryBound(to: Double.self)
    for index in 0..<rows.size {
      var value = product(rows.first, index, isSlope.0)
      if let second = rows.second { value += product(second, index, isSlope.1) }
      output[index] = value
    }
  }

  @inline(__always)
  private func product(_ term: RowTerm, _ index: Int, _ isSlope: Bool) -> Double {
    let d = difference(
      term.x.assumingMemoryBound(to: Double.self), term.y?.assumingMemoryBound(to: Double.self),
      index, term.shift)
    return term.factors[0] * (isSlope ? norm.slope(d, norm: term.limits?[0] ?? 0) : d)
  }
}
