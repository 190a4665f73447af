import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// Views of tensors for the vector kernels, all of one type, float32 or float64: the tensor itself where
/// it is of that type, else a widened copy in scratch memory.
struct Tiles {
  let build: KernelBuild
  let isDouble: Bool

  /// The kernels that hold all these tensors exactly: float64's where one of them needs that.
  init(_ build: KernelBuild, _ tensors: TensorView?...) {
    self.build = build
    isDouble = tensors.contains { $0?.dataType == .float64 }
  }

  /// Bytes of an element of the larger type, for scratch memory.
  static let elementBytes = MemoryLayout<Double>.size

  var kernels: KernelTable { isDouble ? build.float64 : build.float32 }
  var elementBytes: Int { isDouble ? 8 : 4 }

  /// Whether the kernels work on the tensor in place.
  func isDirect(_ tensor: TensorView) -> Bool {
    tensor.dataType == (isDouble ? .float64 : .float32)
  }

  /// Elements from `begin` on, in place.
  func direct(_ tensor: TensorView, _ begin: Int) -> UnsafeMutableRawPointer {
    UnsafeMutableRawPointer(tensor.elements(as: UInt8.self)) + begin * elementBytes
  }

  /// Elements `begin ..< begin + count`: in place, or widened into `tile`.
  func read(
    _ tensor: TensorView, _ begin: Int, _ count: Int, tile: UnsafeMutableRawPointer
  ) -> UnsafeRawPointer {
    if isDirect(tensor) { return UnsafeRawPointer(direct(tensor, begin)) }
    switch (tensor.dataType, isDouble) {
    case (.float16, false):
      build.conversions.widenHalf(tensor.elements(as: UInt16.self) + begin, tile, count)
    case (.bfloat16, false):
      build.conversions.widenBFloat(tensor.elements(as: UInt16.self) + begin, tile, count)
    default: for index in 0..<count { set(tile, index, tensor[begin + index]) }
    }
    return UnsafeRawPointer(tile)
  }

  @inline(__always)
  func set(_ tile: UnsafeMutableRawPointer, _ index: Int, _ value: Double) {
    if isDouble {
      tile.storeBytes(of: value, toByteOffset: 8 * index, as: Double.self)
    } else {
      tile.storeBytes(of: Float(value), toByteOffset: 4 * index, as: Float.self)
    }
  }

  @inline(__always)
  func get(_ tile: UnsafeMutableRawPointer, _ index: Int) -> Double {
    isDouble
      ? tile.load(fromByteOffset: 8 * index, as: Double.self)
      : Double(tile.load(fromByteOffset: 4 * index, as: Float.self))
  }

  /// As `read`, of a tensor that broadcasts to `shape`.
  func readBroadcast(
    _ tensor: TensorView, _ begin: Int, _ count: Int, _ shape: UnsafeBufferPointer<Int64>,
    tile: UnsafeMutableRawPointer
  ) -> UnsafeRawPointer {
    if tensor.hasShape(shape) { return read(tensor, begin, count, tile: tile) }
    if tensor.count == 1 {
      for index in 0..<count { set(tile, index, tensor[0]) }
    } else if isTrailing(tensor, shape) {
      var place = begin % tensor.count
      for index in 0..<count {
        set(tile, index, tensor[place])
        place += 1
        if place == tensor.count { place = 0 }
      }
    } else {
      for index in 0..<count {
        set(tile, index, tensor[tensor.broadcastIndex(begin + index, shape)])
      }
    }
    return UnsafeRawPointer(tile)
  }

  /// Whether the tensor repeats with every element of the dimensions that it lacks.
  private func isTrailing(_ tensor: TensorView, _ shape: UnsafeBufferPointer<Int64>) -> Bool {
    let skipped = shape.count - tensor.rank
    return skipped >= 0 && (0..<tensor.rank).allSatisfy { tensor.shape[$0] == shape[skipped + $0] }
  }

  /// Where a kernel writes elements from `begin` on: in place, or into `tile`.
  func target(
    _ tensor: TensorView, _ begin: Int, tile: UnsafeMutableRawPointer
  ) -> UnsafeMutableRawPointer {
    isDirect(tensor) ? direct(tensor, begin) : tile
  }

  /// Rounds what was written into `tile` to where it belongs; nothing to do in place.
  func commit(
    _ tensor: TensorView, _ begin: Int, _ count: Int, tile: UnsafeMutableRawPointer
  ) {
    if isDirect(tensor) { return }
    switch (tensor.dataType, isDouble) {
    case (.float16, false):
      build.conversions.narrowHalf(tile, tensor.elements(as: UInt16.self) + begin, count)
    case (.bfloat16, false):
      build.conversions.narrowBFloat(tile, tensor.elements(as: UInt16.self) + begin, count)
    default: for index in 0..<count { tensor[begin + index] = get(tile, index) }
    }
  }

  /// Whether there is among them what the kernels need not get right.
  func hasExtremes(_ values: UnsafeRawPointer, _ count: Int) -> Bool {
    isDouble
      ? Extremes.areIn(values.assumingMemoryBound(to: Double.self), count)
      : Extremes.areIn(values.assumingMemoryBound(to: Float.self), count)
  }

  /// The same of a sum of losses or of a scale.
  func isExtreme(_ value: Double) -> Bool { !(value.magnitude < (isDouble ? 1e299 : 1e29)) }
}

/// Rows that are computed together when they have to be widened: some 16 Ki elements, or one row.
enum TileRows {
  static let elements = 16 << 10
  static func count(_ columns: Int) -> Int { max(elements / max(columns, 1), 1) }
  /// Elements of such a tile.
  static func capacity(_ columns: Int) -> Int { count(columns) * columns }
}
