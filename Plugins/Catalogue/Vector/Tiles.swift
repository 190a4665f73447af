import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// Views of tensors for the vector kernels, all of one floating-point type: the tensors themselves where all
/// are of one, else copies of those that are not, in float32 or float64, in scratch memory.
struct Tiles {
  let build: KernelBuild
  /// What the kernels are given.
  private(set) var type: DataType

  /// Elementwise tensors; `isWide`: none of 16 bits. In the reference they are float64, whatever they are in memory.
  init(
    _ first: TensorView, _ second: TensorView?, _ third: TensorView?, _ fourth: TensorView?,
    _ fifth: TensorView?, isWide: Bool
  ) {
    self.init(
      Kernels.chosen ?? Kernels.baseline, first, second, third, fourth, fifth, isWide: isWide)
    if Kernels.chosen == nil { type = .float64 }
  }

  /// float64, whatever the tensors are in memory.
  init(reference first: TensorView) {
    self.init(Kernels.baseline, first)
    type = .float64
  }

  /// The kernels that hold all these tensors exactly; `isWide`: none of 16 bits.
  init(
    _ build: KernelBuild, _ first: TensorView, _ second: TensorView? = nil,
    _ third: TensorView? = nil, _ fourth: TensorView? = nil, _ fifth: TensorView? = nil,
    isWide: Bool = false
  ) {
    self.build = build
    let common = first.dataType
    var isMixed = false
    var isDouble = common == .float64
    // No array, which would be allocated in every call.
    func add(_ tensor: TensorView?) {
      guard let tensor else { return }
      if tensor.dataType != common { isMixed = true }
      if tensor.dataType == .float64 { isDouble = true }
    }
    add(second)
    add(third)
    add(fourth)
    add(fifth)
    let isAlike = !isMixed && !isWide && common.isFloatingPoint
    type = isDouble ? .float64 : isAlike ? common : .float32
  }

  /// Bytes of an element of the largest type, for scratch memory.
  static let elementBytes = MemoryLayout<Double>.size

  var kernels: KernelTable { build.table(type) }
  var isDouble: Bool { type == .float64 }

  /// Whether the kernels work on the tensor in place.
  func isDirect(_ tensor: TensorView) -> Bool { tensor.dataType == type }

  /// Elements from `begin` on, in place.
  func direct(_ tensor: TensorView, _ begin: Int) -> UnsafeMutableRawPointer {
    UnsafeMutableRawPointer(tensor.elements(as: UInt8.self)) + begin * type.byteSize
  }

  /// Elements `begin ..< begin + count`: in place, or converted into `tile`.
  func read(
    _ tensor: TensorView, _ begin: Int, _ count: Int, tile: UnsafeMutableRawPointer
  ) -> UnsafeRawPointer {
    if isDirect(tensor) { return UnsafeRawPointer(direct(tensor, begin)) }
    if type == .float32 && tensor.dataType.isFloatingPoint {
      let source = tensor.elements(as: UInt16.self) + begin
      build.table(tensor.dataType).widen(source, tile, count)
    } else {
      for index in 0..<count { set(tile, index, tensor[begin + index]) }
    }
    return UnsafeRawPointer(tile)
  }

  /// A view of `count` elements in scratch memory.
  @inline(__always)
  private func view(_ tile: UnsafeMutableRawPointer) -> TensorView {
    TensorView(data: tile, shape: LossReduction.emptyShape, count: 1, dataType: type)
  }

  @inline(__always)
  func set(_ tile: UnsafeMutableRawPointer, _ index: Int, _ value: Double) {
    view(tile)[index] = value
  }

  @inline(__always)
  func get(_ tile: UnsafeMutableRawPointer, _ index: Int) -> Double { view(tile)[index] }

  /// `count` times a value, from `index` on.
  func fill(
    _ tile: UnsafeMutableRawPointer, _ index: Int, _ count: Int, _ value: Double
  ) {
    func repeatFirst<Bits: BitwiseCopyable>(_ type: Bits.Type) {
      let place = tile.assumingMemoryBound(to: type) + index
      place.update(repeating: place[0], count: count)
    }
    if count == 0 { return }
    set(tile, index, value)
    switch type {
    case .float64: repeatFirst(UInt64.self)
    case .float32: repeatFirst(UInt32.self)
    default: repeatFirst(UInt16.self)
    }
  }

  /// `count` elements of a tensor from `first` on, to `index` of a tile and behind it.
  private func copy(
    _ tensor: TensorView, _ first: Int, _ count: Int, _ tile: UnsafeMutableRawPointer, _ index: Int
  ) {
    if isDirect(tensor) {
      (tile + index * type.byteSize).copyMemory(
        from: direct(tensor, first), byteCount: count * type.byteSize)
      return
    }
    for place in 0..<count { set(tile, index + place, tensor[first + place]) }
  }

  /// As `read`, of a tensor that broadcasts to `shape`.
  func readBroadcast(
    _ tensor: TensorView, _ begin: Int, _ count: Int, _ shape: UnsafeBufferPointer<Int64>,
    tile: UnsafeMutableRawPointer
  ) -> UnsafeRawPointer {
    if tensor.hasShape(shape) { return read(tensor, begin, count, tile: tile) }
    if tensor.count == 1 {
      fill(tile, 0, count, tensor[0])
    } else if isTrailing(tensor, shape) {
      var place = begin % tensor.count
      var index = 0
      while index < count {
        let taken = min(tensor.count - place, count - index)
        copy(tensor, place, taken, tile, index)
        index += taken
        place = 0
      }
    } else {
      readRuns(tensor, begin, count, shape, tile: tile)
    }
    return UnsafeRawPointer(tile)
  }

  /// As `readBroadcast`, by runs of elements that lie behind one another, or are one.
  private func readRuns(
    _ tensor: TensorView, _ begin: Int, _ count: Int, _ shape: UnsafeBufferPointer<Int64>,
    tile: UnsafeMutableRawPointer
  ) {
    let skipped = shape.count - tensor.rank
    var run = 1
    var isRepeated: Bool?
    for dimension in stride(from: shape.count - 1, through: 0, by: -1) where shape[dimension] != 1 {
      let isOne = dimension < skipped || tensor.shape[dimension - skipped] == 1
      if isRepeated == nil { isRepeated = isOne }
      if isRepeated != isOne { break }
      run *= Int(shape[dimension])
    }
    var index = 0
    while index < count {
      let taken = min(run - (begin + index) % run, count - index)
      let first = tensor.broadcastIndex(begin + index, shape)
      if isRepeated == true {
        fill(tile, index, taken, tensor[first])
      } else {
        copy(tensor, first, taken, tile, index)
      }
      index += taken
    }
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
    if type == .float32 && tensor.dataType.isFloatingPoint {
      let goal = tensor.elements(as: UInt16.self) + begin
      build.table(tensor.dataType).narrow(tile, goal, count)
    } else {
      for index in 0..<count { tensor[begin + index] = get(tile, index) }
    }
  }

  /// Whether there is among them what the kernels need not get right.
  func hasExtremes(_ values: UnsafeRawPointer, _ count: Int) -> Bool {
    Extremes.areIn(values, type, count)
  }

  /// The same of a sum of losses or of a scale.
  func isExtreme(_ value: Double) -> Bool { !(value.magnitude < (isDouble ? 1e299 : 1e29)) }
}

extension KernelBuild {
  /// The kernels for tensors of a floating-point type.
  func table(_ type: DataType) -> KernelTable {
    switch type {
    case .float64: float64
    case .float16: float16
    case .bfloat16: bfloat16
    default: float32
    }
  }
}

/// How rows are cut into units of work: a contiguous row by itself; rows across memory as many as lie next
/// to one another and make a tile, since a cache line holds elements of several.
struct RowUnits: BitwiseCopyable {
  private let inner: Int
  private let perUnit: Int
  private let unitsPerSlab: Int
  let count: Int

  /// `rows` rows of `size` elements, `inner` apart.
  init(rows: Int, size: Int, inner: Int) {
    self.inner = inner
    perUnit = inner == 1 ? 1 : min(StridedRows.tileRows(size: size), inner)
    unitsPerSlab = inner == 0 ? 0 : parts(inner, of: perUnit)
    count = inner <= 1 ? rows : rows / inner * unitsPerSlab
  }

  /// Nanoseconds of a unit, of those of an element and of a row.
  func cost(size: Int, element: Double, row: Double) -> Double {
    Double(perUnit) * (row + element * Double(size))
  }

  /// Calls `body` with the first row and the number of rows of each run of neighbours: at most `limit`, and
  /// within a slab.
  func eachRun(
    _ units: Range<Int>, limit: Int, _ body: (Int, Int) throws(StatusError) -> Void
  ) throws(StatusError) {
    if inner == 1 {
      var row = units.lowerBound
      while row < units.upperBound {
        let count = min(limit, units.upperBound - row)
        try body(row, count)
        row += count
      }
      return
    }
    for unit in units {
      let (slab, block) = unit.quotientAndRemainder(dividingBy: unitsPerSlab)
      let begin = block * perUnit
      try body(slab * inner + begin, min(perUnit, inner - begin))
    }
  }

  /// Where `count` rows from one on lie, for the kernels.
  func layout(_ count: Int, size: Int) -> StridedRows {
    StridedRows(count: count, size: size, step: inner == 1 ? size : 1, stride: inner)
  }
}

/// Whether results may be written past the cache: each so large that neither it nor the input would be found in the
/// second-level cache again. Written through it each line is read first, which costs the kernels 10 to 40 % where it is
/// computed little on; whoever reads it afterwards finds it in memory instead of in the third-level cache. With both
/// counted it pays from about 12 MiB on, with 2 MiB of second-level cache (docs/benchmarks.md, which has a processor too
/// where it pays nothing). Several at once go past it where `Kernels.streamsTogether`.
enum Streaming {
  static let bytesMin = 12 << 20

  /// `results`: how many the kernels write at once, each of so many elements.
  static func isWorthwhile(_ elements: Int, _ type: DataType, results: Int = 1) -> Bool {
    elements * type.byteSize >= bytesMin && (results < 2 || Kernels.streamsTogether)
  }
}
