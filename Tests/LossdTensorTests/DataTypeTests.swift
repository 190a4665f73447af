import LossdTensor
import Testing

@Suite struct DataTypeTests {
  @Test("promotion is symmetric and idempotent")
  func promotionIsSymmetric() {
    for first in DataType.allCases {
      for second in DataType.allCases {
        #expect(first.promoted(with: second) == second.promoted(with: first))
      }
      #expect(first.promoted(with: first) == first)
    }
    #expect(DataType.float16.promoted(with: .bfloat16) == .float32)
    #expect(DataType.uint8.promoted(with: .int8) == .int16)
    #expect(DataType.int64.promoted(with: .float16) == .float16)
  }

  @Test("bfloat16 rounds a double once, to nearest, ties to even")
  func bfloat16RoundsOnce() {
    // 1 + 2^-8 is the tie between 1 and 1 + 2^-7; a hair above it must go up, and through float32
    // with plain rounding it would have been lost.
    #expect(BFloat16(1.0 + 0x1p-8).widened == 1.0)
    #expect(BFloat16(1.0 + 0x1p-8 + 0x1p-40).widened == 1.0 + 0x1p-7)
    #expect(BFloat16(1.0 + 0x3p-8).widened == 1.0 + 0x1p-6)
    #expect(BFloat16(1.0 + 0x3p-8 - 0x1p-40).widened == 1.0 + 0x1p-7)
    #expect(BFloat16(-0.0).bitPattern == 0x8000)
    #expect(BFloat16(Double.nan).widened.isNaN)
    #expect(BFloat16(Double.infinity).widened == .infinity)
    #expect(BFloat16(1e300).widened == .infinity)
    for bits in UInt16.min...UInt16.max {
      let value = BFloat16(bitPattern: bits)
      if value.float.isNaN { continue }
      #expect(BFloat16(value.widened) == value)
      #expect(BFloat16(value.float) == value)
    }
  }

  @Test("an element count that would overflow is refused, empty shapes are not")
  func elementCounts() {
    #expect(checkedElementCount([], byteSize: 4) == 1)
    #expect(checkedElementCount([2, 3], byteSize: 4) == 6)
    #expect(checkedElementCount([0, 1 << 40], byteSize: 4) == 0)
    #expect(checkedElementCount([0, 1 << 40, 1 << 40], byteSize: 4) == nil)
    #expect(checkedElementCount([1 << 62], byteSize: 2) == nil)
    #expect(checkedElementCount([-1], byteSize: 4) == nil)
    #expect(checkedElementCount([1 << 32, 1 << 32], byteSize: 1) == nil)
  }
}
