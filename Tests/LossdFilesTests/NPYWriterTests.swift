import Foundation
import LossdTensor
import Testing

@testable import LossdFiles

@Suite struct NPYWriterTests {
  @Test("rows that arrive in batches make the file that one write makes")
  func batches() throws {
    let scratch = try Scratch()
    let whole = Tensor((0..<3 * 1000).map { Float($0) }, shape: [1000, 3])
    let path = try scratch.file("batches.npy")
    let writer = try NPYWriter(path: path, dataType: .float32, rowShape: [3])
    var row = 0
    for count in [0, 1, 9, 90, 900] {
      let bytes = whole.bytes[row * 12..<(row + count) * 12]
      try writer.append(rows: count, bytes: UnsafeRawBufferPointer(rebasing: bytes))
      row += count
    }
    #expect(writer.rowCount == 1000)
    try writer.finish()
    #expect(try TensorFile.tensor(at: path).tensor().doubles == whole.doubles)
    let once = try scratch.file("once.npy")
    try NPYWriter.write(whole, to: once)
    #expect(try bytes(ofFile: once) == bytes(ofFile: path))
  }

  @Test("no rows, rows without elements and scalars in a row are files too")
  func emptyFiles() throws {
    let scratch = try Scratch()
    let path = try scratch.file("empty.npy")
    try NPYWriter(path: path, dataType: .int64, rowShape: [2, 0]).finish()
    #expect(try TensorFile.tensor(at: path).shape == [0, 2, 0])
    let writer = try NPYWriter(path: path, dataType: .float64, rowShape: [])
    try writer.append(Tensor([1.5, 2.5]))
    try writer.append(Tensor([3.5], shape: []))
    try writer.finish()
    #expect(try TensorFile.tensor(at: path).tensor().doubles == [1.5, 2.5, 3.5])
    let hollow = try NPYWriter(path: path, dataType: .bool, rowShape: [0])
    try hollow.append(rows: 7, bytes: UnsafeRawBufferPointer(start: nil, count: 0))
    try hollow.finish()
    #expect(try TensorFile.tensor(at: path).shape == [7, 0])
  }

  @Test("an unfinished file leaves what was there before, and nothing else")
  func unfinishedFiles() throws {
    let scratch = try Scratch()
    let path = try scratch.file("out.npy", [1, 2, 3])
    do {
      let writer = try NPYWriter(path: path, dataType: .float32, rowShape: [1])
      try writer.append(Tensor([Float(1)], shape: [1, 1]))
      #expect(try scratch.names.count == 2)
      #expect(throws: FileError.self) { try writer.append(Tensor([1.0], shape: [1, 1])) }
      #expect(throws: FileError.self) { try writer.append(Tensor([Float(1)])) }
    }
    #expect(try scratch.names == ["out.npy"])
    #expect(try bytes(ofFile: path) == [1, 2, 3])
  }

  @Test("a header's length does not depend on the number of rows")
  func headerLengths() {
    for rank in 1...64 {
      let tail = Array(repeating: 1, count: rank - 1)
      let lengths = [0, 9, 10, 12_345, Int.max].map {
        NPYHeader(dataType: .float32, shape: [$0] + tail).encoded.count
      }
      #expect(Set(lengths).count == 1)
      #expect(lengths[0] % 64 == 0)
    }
    let widest = NPYHeader(dataType: .float32, shape: Array(repeating: .max, count: 64))
    #expect(widest.encoded.count < 2048)
  }

  @Test("a link is written through, a device or a folder is not replaced")
  func targets() throws {
    let scratch = try Scratch()
    let real = try scratch.file("real.npy", [0])
    let link = try scratch.file("link.npy")
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: real)
    try NPYWriter.write(Tensor([Int32(7)]), to: link)
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: link) == real)
    #expect(try TensorFile.tensor(at: real).tensor().scalar == 7)
    for path in ["/dev/null", scratch.path, scratch.path + "/absent/out.npy", real + "/x"] {
      let error = #expect(throws: FileError.self) { try NPYWriter.write(Tensor([1.0]), to: path) }
      #expect(error?.path == path)
    }
    #expect(throws: FileError.self) {
      try NPYWriter(path: real, dataType: .float32, rowShape: [1 << 40, 1 << 40])
    }
  }
}
