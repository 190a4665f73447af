import Glibc
import LossdTensor

/// Writes a .npy file whose rows arrive in batches; memory does not grow with them.
///
/// The rows go to a temporary file in the same folder. `finish` patches the number of rows into the
/// header, syncs the file and renames it, so that `path` holds a whole file or what it held before.
/// Without `finish` the temporary file is removed when the writer goes. After an error a writer is
/// of no more use. Not for several threads at once.
public final class NPYWriter {
  public let path: String
  public let dataType: DataType
  /// Rows written so far, up to the last.
  public private(set) var rowCount = 0

  private let rowShape: [Int]
  private let rowByteCount: Int
  private let headerByteCount: Int
  private var file: TemporaryFile

  /// Begins a file of rows of shape `rowShape`: the array's shape is `[rows] + rowShape`.
  public init(path: String, dataType: DataType, rowShape: [Int]) throws(FileError) {
    let sizes = rowShape.lazy.map { Int64($0) }
    guard rowShape.count < NPYHeader.rankMax,
      checkedElementCount(sizes, byteSize: dataType.byteSize) != nil
    else {
      throw FileError(
        path, .unsupported,
        "cannot write rows of \(dataType) \(shapeText(sizes)): they are too large")
    }
    self.path = path
    self.dataType = dataType
    self.rowShape = rowShape
    rowByteCount = rowShape.reduce(dataType.byteSize, *)
    let header = NPYHeader(dataType: dataType, shape: [0] + rowShape).encoded
    headerByteCount = header.count
    file = try TemporaryFile(for: path)
    try file.append(header)
  }

  /// Appends rows: `count` of them, `bytes` holding exactly their elements, row-major. The caller
  /// keeps the bytes' owner alive for the call; for a `Tensor`, `append(_:)` does.
  public func append(rows count: Int, bytes: UnsafeRawBufferPointer) throws(FileError) {
    let (expected, overflow) = count.multipliedReportingOverflow(by: rowByteCount)
    precondition(count >= 0 && !overflow && bytes.count == expected, "rows and bytes differ")
    let (sum, carry) = rowCount.addingReportingOverflow(count)
    precondition(!carry)
    try file.append(bytes)
    rowCount = sum
  }

  /// Appends all rows of `tensor`, whose type is the file's and whose shape is `[rows] + rowShape`.
  /// A scalar is one row of a file of scalars.
  public func append(_ tensor: Tensor) throws(FileError) {
    try check(tensor)
    defer { withExtendedLifetime(tensor) {} }
    try append(rows: tensor.shape.first ?? 1, bytes: tensor.bytes)
  }

  private func check(_ tensor: Tensor) throws(FileError) {
    guard tensor.dataType == dataType, tensor.shape.dropFirst().elementsEqual(rowShape) else {
      let row = shapeText(rowShape.lazy.map { Int64($0) })
      throw FileError(
        path, .unsupported,
        "cannot append \(tensor.dataType) \(shapeText(tensor.shape.lazy.map { Int64($0) })), "
          + "expected rows of \(dataType) \(row)")
    }
  }

  /// As `append`, to where row `row` of the file is to be; parts may come in any order, and leave
  /// no row out.
  public func write(_ tensor: Tensor, at row: Int) throws(FileError) {
    try check(tensor)
    defer { withExtendedLifetime(tensor) {} }
    let (start, overflow) = row.multipliedReportingOverflow(by: rowByteCount)
    let (offset, carry) = start.addingReportingOverflow(headerByteCount)
    precondition(row >= 0 && !overflow && !carry)
    try file.write(tensor.bytes, at: offset)
    rowCount = max(rowCount, row + (tensor.shape.first ?? 1))
  }

  /// Completes the file and puts it in its place.
  public func finish() throws(FileError) {
    let header = NPYHeader(dataType: dataType, shape: [rowCount] + rowShape).encoded
    precondition(header.count == headerByteCount, "21 digits of room hold any count")
    try file.write(header, at: 0)
    try file.commit()
  }

  /// Writes one tensor, a scalar too, as a whole file, in place of what `path` held before.
  /// - Parameter check: called when all is written and before the file has its name; what it throws
  ///   leaves `path` as it was.
  public static func write(
    _ tensor: Tensor, to path: String, _ check: () throws -> Void = {}
  ) throws {
    let header = NPYHeader(dataType: tensor.dataType, shape: tensor.shape).encoded
    var file = try TemporaryFile(for: path)
    defer { withExtendedLifetime(tensor) {} }
    try file.append(header)
    try file.append(tensor.bytes)
    try check()
    try file.commit()
  }
}
