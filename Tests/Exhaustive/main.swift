// Every float32 through the kernels' exp, log and log1p: `make test-exhaustive`.
import Glibc
import LossdKernelTable
import LossdKernels

/// exp, log and log1p of every float32, in every build, against float64: `make test-exhaustive`.
enum Exhaustive {
  private static let allowedUlps = 2.0

  /// Prints the worst error of each; false where one is over the bound, or a special value differs.
  static func run() -> Bool {
    var isGood = true
    for build in Kernels.all {
      let table = build.float32
      isGood = check("\(build.name) exp", table.exp, { Glibc.exp($0) }) && isGood
      isGood = check("\(build.name) log", table.log, { Glibc.log($0) }) && isGood
      isGood = check("\(build.name) log1p", table.log1p, { Glibc.log1p($0) }) && isGood
    }
    return isGood
  }

  private static func check(
    _ name: String, _ kernel: KernelTable.Elementwise, _ truth: (Double) -> Double
  ) -> Bool {
    let block = 1 << 16
    let x = UnsafeMutablePointer<Float>.allocate(capacity: block)
    let y = UnsafeMutablePointer<Float>.allocate(capacity: block)
    defer {
      x.deallocate()
      y.deallocate()
    }
    var worst = 0.0
    var worstAt: Float = 0
    var isGood = true
    for high in 0..<UInt32(1 << 16) {
      for low in 0..<block { x[low] = Float(bitPattern: high << 16 | UInt32(low)) }
      kernel(x, y, block)
      for place in 0..<block {
        let exact = truth(Double(x[place]))
        let rounded = Float(exact)
        if y[place].bitPattern == rounded.bitPattern { continue }
        let (ours, sign) = (Double(y[place]), y[place].sign)
        if rounded.isNaN || ours.isNaN || exact == 0 || sign != rounded.sign {
          if rounded.isNaN && ours.isNaN { continue }
          if isGood { print("\(name)(\(x[place])) is \(ours), expected \(rounded)") }
          isGood = false
          continue
        }
        // Infinity stands for the number after the largest: an ulp may fall on either side.
        let after = 0x1p128
        let error =
          (min(ours.magnitude, after) - min(exact.magnitude, after)).magnitude
          / Double(rounded.isInfinite ? 0x1p104 : rounded.ulp)
        if error > worst { (worst, worstAt) = (error, x[place]) }
      }
    }
    print("\(name): at most \(worst) ulp, at \(worstAt)")
    return isGood && worst <= allowedUlps
  }
}

exit(Exhaustive.run() ? 0 : 1)
